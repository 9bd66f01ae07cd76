\set customer random(1, :customers)
\set product random_zipfian(1, :products, 1.1)
BEGIN;
INSERT INTO cart_item(customer, product, amount) VALUES (:customer, :product, 1)
ON CONFLICT(customer, product) DO UPDATE SET amount = cart_item.amount + 1;
COMMIT;
