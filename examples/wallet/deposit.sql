\set wallet random(1, 2 * :customers)
\set amount random(1, 100)
BEGIN;
UPDATE wallet SET balance = balance + :amount WHERE id = :wallet;
INSERT INTO payment(wallet, amount) VALUES (:wallet, :amount);
COMMIT;
