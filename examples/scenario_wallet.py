"""A scenario of your own: a customer's two wallets may go below zero, but not both together.

    cwkit run --scenario examples/scenario_wallet.py:Wallet --writers 4

Each withdrawal reads both wallets and then writes one. Where two of them overlap, each sees enough
money and both pay: write skew, which snapshot isolation allows and serializable does not.
"""

from workloads.scenarios import Draw, Finding, Scenario, Shape, keys

DEPOSIT, WITHDRAW, LOOK = range(3)


class Wallet(Scenario):
    name = "wallet"
    story = "Customers pay from two wallets: one may go below zero, their sum may not."
    kinds = ("deposit", "withdraw", "look")  # Draw.kind is an index into this
    Params = Shape  # rows, keys, think_us, ...; subclass it for options of your own

    def __init__(self, params):
        self.params = params

    def schema(self):
        return ["CREATE TABLE wallet(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL)"]

    def load(self, session, rng):
        session.begin()
        for wallet in range(2 * self.params.rows):  # customer c owns wallets 2c and 2c + 1
            session.run("INSERT INTO wallet VALUES (?, 100)", (wallet,))
        session.commit()

    def draw(self, context):
        # From context.rng() alone and never from the database: the same seed draws the same again.
        rng = context.rng()
        customer = keys.chooser(self.params.keys, self.params.rows, rng)
        if context.role == "reader":
            return lambda: Draw(LOOK, customer())

        def next_transaction():
            kind, side, amount = rng.integers(2), rng.integers(2), rng.integers(1, 100)
            return Draw(int(kind), (customer(), int(side), int(amount)))

        return next_transaction

    def bodies(self, context):
        run, rows, think = context.session.run, context.session.rows, context.think
        pay = "UPDATE wallet SET balance = balance + ? WHERE id = ?"
        see = "SELECT balance FROM wallet WHERE id IN (?, ?)"

        def deposit(args):
            customer, side, amount = args
            run(pay, (amount, 2 * customer + side))
            return amount

        def withdraw(args):
            customer, side, amount = args
            both = rows(see, (2 * customer, 2 * customer + 1))
            think()
            if sum(balance for (balance, *_) in both) < amount:
                return 0
            run(pay, (-amount, 2 * customer + side))
            return -amount  # kept with the transaction, for the check

        def look(customer):
            rows(see, (2 * customer, 2 * customer + 1))
            think()

        return deposit, withdraw, look

    def check(self, session, log):
        poor = session.rows(
            "SELECT id / 2, sum(balance) FROM wallet GROUP BY id / 2 HAVING sum(balance) < 0"
        )
        total = session.rows("SELECT sum(balance) FROM wallet")[0][0]
        paid = sum(
            int(row["result"])
            for worker in log.workers  # writers and readers
            for row in worker.attempts
            if row["outcome"] == 1  # committed
        )
        expected = 200 * self.params.rows + paid
        unknown = log.unknown()  # a killed writer: nobody knows whether it paid
        return [
            Finding(
                "no customer below zero",
                not poor,
                f"{len(poor)} customers have less than nothing: {poor[:3]}.",
                {"customers": poor[:100]},
            ),
            Finding(
                "money",
                total == expected or unknown > 0,
                f"The wallets hold {total:,}; with what was paid they should hold {expected:,} "
                f"({unknown} transactions of unknown outcome).",
                {"total": total, "expected": expected},
            ),
        ]
