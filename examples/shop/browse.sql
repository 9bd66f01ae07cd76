\set category random(1, 20)
BEGIN;
SELECT p.id, p.name, p.price, s.amount FROM product p JOIN stock s ON s.product = p.id
WHERE p.category = :category ORDER BY p.price LIMIT 20;
COMMIT;
