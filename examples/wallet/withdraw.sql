-- Reads both wallets, then pays from one: where two of these overlap, both may see enough money.
\set customer random(1, :customers)
\set wallet 2 * :customer - random(0, 1)
\set amount random(1, 100)
BEGIN;
SELECT sum(balance) AS both FROM wallet WHERE customer = :customer \gset
\if :both >= :amount
UPDATE wallet SET balance = balance - :amount WHERE id = :wallet;
INSERT INTO payment(wallet, amount) VALUES (:wallet, -:amount);
\endif
COMMIT;
