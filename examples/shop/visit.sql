\set customer random(1, :customers)
\set product random_zipfian(1, :products, 1.1)
\set now random(1, 2000000000)
BEGIN;
INSERT INTO visit(customer, product) VALUES (:customer, :product);
UPDATE customer SET last_seen = :now WHERE id = :customer;
COMMIT;
