-- What must hold when all is over: each query here must answer no row.
-- A row that is answered is shown as evidence, and the run is not well (exit status 1).

-- Nothing is sold that was not there.
SELECT id, stock FROM item WHERE stock < 0;

-- Nothing is lost: what is there and what was sold make what was loaded.
SELECT id, stock, sold FROM item WHERE stock + sold <> 1000000;

-- Each item's sales are the rows of `sale`: a lost update or a torn transaction would show here.
SELECT item.id, item.sold, sum(sale.quantity) AS rows_of_sale
    FROM item JOIN sale ON sale.item = item.id
    GROUP BY item.id, item.sold
    HAVING item.sold <> sum(sale.quantity);

-- Each acknowledged sale is there once. :changed is how many transactions of scripts that write were
-- acknowledged, :unknown_changes of how many nobody knows (a writer that died inside COMMIT).
SELECT n, :changed AS acknowledged FROM (SELECT count(*) AS n FROM sale) AS s
    WHERE n NOT BETWEEN :changed AND :changed + :unknown_changes;
