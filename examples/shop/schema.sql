-- A shop: ten tables. :products, :customers say how large it is.
CREATE TABLE category(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE product(
    id INTEGER PRIMARY KEY,
    category INTEGER NOT NULL REFERENCES category(id),
    name TEXT NOT NULL,
    price INTEGER NOT NULL
);
CREATE INDEX product_category ON product(category);
CREATE TABLE stock(product INTEGER PRIMARY KEY REFERENCES product(id), amount INTEGER NOT NULL);
CREATE TABLE customer(
    id INTEGER PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    points INTEGER NOT NULL DEFAULT 0,
    last_seen INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE address(
    id INTEGER PRIMARY KEY,
    customer INTEGER NOT NULL REFERENCES customer(id),
    street TEXT NOT NULL
);
CREATE INDEX address_customer ON address(customer);
CREATE TABLE cart_item(
    customer INTEGER NOT NULL,
    product INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY(customer, product)
);
CREATE TABLE orders(
    id INTEGER PRIMARY KEY,
    request TEXT NOT NULL UNIQUE,
    customer INTEGER NOT NULL REFERENCES customer(id),
    state TEXT NOT NULL DEFAULT 'new',
    total INTEGER NOT NULL
);
CREATE INDEX orders_state ON orders(state, id);
CREATE INDEX orders_customer ON orders(customer);
CREATE TABLE order_line(
    request TEXT NOT NULL REFERENCES orders(request),
    product INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    price INTEGER NOT NULL
);
CREATE INDEX order_line_request ON order_line(request);
CREATE TABLE payment(id INTEGER PRIMARY KEY, request TEXT NOT NULL, paid INTEGER NOT NULL);
CREATE TABLE visit(id INTEGER PRIMARY KEY, customer INTEGER NOT NULL, product INTEGER NOT NULL);
CREATE INDEX visit_product ON visit(product);

INSERT INTO category(id, name)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20)
SELECT i, 'category ' || i FROM n;
INSERT INTO product(id, category, name, price)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :products)
SELECT i, 1 + i % 20, 'product ' || i, 100 + i % 900 FROM n;
INSERT INTO stock(product, amount) SELECT id, 1000 FROM product;
INSERT INTO customer(id, email)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :customers)
SELECT i, 'customer' || i || '@example.org' FROM n;
INSERT INTO address(customer, street) SELECT id, 'street ' || id FROM customer;
