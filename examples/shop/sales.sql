BEGIN;
SELECT p.category, count(*), sum(l.amount * l.price) FROM order_line l
JOIN product p ON p.id = l.product GROUP BY p.category;
COMMIT;
