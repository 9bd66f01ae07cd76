-- Customer c owns the wallets 2c - 1 and 2c: one may go below zero, their sum may not.
CREATE TABLE wallet(
    id INTEGER PRIMARY KEY,
    customer INTEGER NOT NULL,
    balance INTEGER NOT NULL
);
CREATE INDEX wallet_customer ON wallet(customer);
CREATE TABLE payment(
    id INTEGER PRIMARY KEY,
    wallet INTEGER NOT NULL REFERENCES wallet(id),
    amount INTEGER NOT NULL
);

INSERT INTO wallet(id, customer, balance)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2 * :customers)
SELECT i, (i + 1) / 2, 100 FROM n;
