\set customer random(1, :customers)
BEGIN;
SELECT id, balance FROM wallet WHERE customer = :customer;
COMMIT;
