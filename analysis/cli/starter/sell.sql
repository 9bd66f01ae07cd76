-- A transaction that writes, in pgbench's script language: it sells some of an item.
-- Choose rows as your application does: random is even, random_zipfian(1, :items, 1.2) prefers a few.

\set item random(1, :items)
\set quantity random(1, 5)

-- A plain BEGIN stands for the mode that is tried: --begin deferred, immediate or concurrent.
BEGIN;
-- \gset keeps the row in variables that are called as its columns.
SELECT stock FROM item WHERE id = :item \gset
-- Work that your application does inside the transaction would stand here: \sleep 200 us
\if :stock < :quantity
\set quantity 0
\endif
UPDATE item SET stock = stock - :quantity, sold = sold + :quantity WHERE id = :item;
INSERT INTO sale(item, quantity) VALUES (:item, :quantity);
COMMIT;
