-- The request's number comes from the application, so that a second try of it is refused.
\set customer random(1, :customers)
\set product random_zipfian(1, :products, 1.1)
\set request random(1, 9000000000000000000)
\set amount random(1, 3)
BEGIN;
SELECT price FROM product WHERE id = :product \gset
SELECT amount AS left_over FROM stock WHERE product = :product \gset
\set total :price * :amount
INSERT INTO orders(request, customer, total) VALUES (:request, :customer, :total);
\if :left_over >= :amount
UPDATE stock SET amount = amount - :amount WHERE product = :product;
INSERT INTO order_line(request, product, amount, price) VALUES (:request, :product, :amount, :price);
INSERT INTO payment(request, paid) VALUES (:request, :total);
UPDATE customer SET points = points + :total / 100 WHERE id = :customer;
DELETE FROM cart_item WHERE customer = :customer AND product = :product;
\else
UPDATE orders SET state = 'sold out' WHERE request = :request;
\endif
COMMIT;
