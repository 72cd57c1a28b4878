"""A random story in a random world: payments, cancellations, refunds, officers; then everything heals."""

from __future__ import annotations

from collections import Counter

from schemas.payments import commands as pc
from tests.unit.sagas.verdict import assert_sound
from tests.unit.sagas.world import Trouble, World

#: As bad as promise R12 asks for: a step fails with p = 0.2, and all else goes wrong as well.
BAD = {
    "lose": 20,
    "double": 20,
    "republish": 10,
    "crash": 5,
    "refuse": 20,
    "slow": 1,
    "forget_results": 30,
}


def live_through(seed: int, trouble: Trouble, *, payments: int = 5, ticks: int = 30) -> World:
    """A world with ``payments`` payments, run until it rests; every process crashes once when it heals."""
    world = World(seed, trouble)
    rng = world.rng
    accounts = [world.account(f"customer-{i}", 0, 1000) for i in range(max(3, payments // 10))]
    ids = []
    for _ in range(payments):
        payer, payee = rng.sample(accounts, 2)
        ids.append(world.pay(payer, payee, rng.randrange(1, 900)))
        world.some(rng.randrange(ticks))
    for payment_id in ids:
        if world.chance(30):
            world.ask(pc.CancelPayment(payment_id=payment_id))
        world.some(rng.randrange(ticks))
    world.some(ticks * payments * 5)
    for payment_id in ids:
        for _ in range(rng.randrange(4)):
            amount = rng.choice((None, rng.randrange(1, 600)))
            world.ask(pc.RefundPayment(payment_id=payment_id, amount=amount))
        world.some(rng.randrange(ticks))
    for case in list(world.cases):
        if world.chance(60):
            world.officer(case, rng.choice(("release", "block")))
    world.some(ticks * payments)
    world.trouble.heal()
    for node in world.nodes:
        node.restart()
    world.run()
    return world


def story(seed: int, trouble: Trouble, *, payments: int = 5) -> Counter[str]:
    """Live through it and judge; how the sagas ended."""
    return assert_sound(live_through(seed, trouble, payments=payments))
