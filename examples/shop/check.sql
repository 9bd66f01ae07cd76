-- Nothing is sold that was not there.
SELECT product, amount FROM stock WHERE amount < 0;
-- What left the stock is in the orders' lines.
SELECT s.product, s.amount, sold FROM stock s
LEFT JOIN (SELECT product, sum(amount) AS sold FROM order_line GROUP BY product) l
    ON l.product = s.product
WHERE s.amount <> 1000 - coalesce(sold, 0);
-- Each order that was not sold out was paid once.
SELECT o.request, o.total, paid FROM orders o
LEFT JOIN (SELECT request, sum(paid) AS paid FROM payment GROUP BY request) p
    ON p.request = o.request
WHERE o.state <> 'sold out' AND o.total <> coalesce(paid, 0);
