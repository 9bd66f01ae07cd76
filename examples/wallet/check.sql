-- No customer is below zero.
SELECT customer, sum(balance) FROM wallet GROUP BY customer HAVING sum(balance) < 0;
-- Each wallet holds what it began with and what was paid.
SELECT w.id, w.balance, paid FROM wallet w
LEFT JOIN (SELECT wallet, sum(amount) AS paid FROM payment GROUP BY wallet) p ON p.wallet = w.id
WHERE w.balance <> 100 + coalesce(paid, 0);
