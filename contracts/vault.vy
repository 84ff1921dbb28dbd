# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title   Vault of a ledger
@license MIT
@notice  Holds the deposits of groups, and pays exits against roots that the operator has published.
         A root commits to one leaf for each participant and each unpaid exit (a Merkle-sum tree of SHA-256).
         Only leaves are paid, each once, and each group pays with its own deposits alone.
         Nobody can move money otherwise: there is no owner, no proxy, no pause, and no function without a condition.
@dev     Unaudited. docs/vault.md describes the states, the times and the attack that each condition stops.
         A condition that fails reverts with the word beside it. No function that changes state can be entered during
         another one.
"""

struct Header:
    group: uint64
    number: uint64
    previous: bytes32   # the header of the accepted root before this one
    deposits: uint64    # how many deposits are included: those with an index below this
    credited: uint256   # their sum
    settled: uint256    # what had been paid
    leaf_count: uint64
    total: uint256      # the sum of the leaves
    root: bytes32

struct Leaf:
    index: uint64
    participant_id: uint64
    exit_entry: uint64  # 0 while the participant is present
    owner: address
    amount: uint256

struct Node:
    sum: uint256
    hash: bytes32

struct Root:
    number: uint64      # 0: there is none
    header: bytes32
    deposits: uint64
    published_at: uint256

struct Kept:
    header: bytes32
    word: uint256       # number, deposits and time of publication: one slot less costs 44,000 gas less

struct Request:
    present: uint64     # the number of the root in which the participant was last shown to be present
    answered: uint64    # the number of the root whose paid exit answered; 0: none has
    at: uint256         # 0: there is no request

event Opened:
    group: indexed(uint64)

event Closed:
    group: indexed(uint64)

event Deposit:
    group: indexed(uint64)
    index: uint64
    owner: indexed(address)
    amount: uint256
    cumulative: uint256

event Published:
    group: indexed(uint64)
    number: indexed(uint64)
    header: bytes32
    deposits: uint64
    credited: uint256
    settled: uint256
    leaf_count: uint64
    total: uint256
    root: bytes32

event Vetoed:
    group: indexed(uint64)
    number: indexed(uint64)

event Paid:
    group: indexed(uint64)
    number: uint64
    index: uint64
    participant_id: uint64
    exit_entry: uint64
    owner: indexed(address)
    amount: uint256

event ExitRequested:
    group: indexed(uint64)
    participant_id: uint64
    owner: indexed(address)
    number: uint64

event Emergency:
    group: indexed(uint64)
    number: uint64

event Reclaimed:
    group: indexed(uint64)
    index: uint64
    owner: indexed(address)
    amount: uint256

event Owed:
    owner: indexed(address)
    amount: uint256

event Collected:
    owner: indexed(address)
    amount: uint256

event KeyProposed:
    is_guardian: bool
    key: indexed(address)
    by: indexed(address)

event KeyAccepted:
    is_guardian: bool
    key: indexed(address)
    by: indexed(address)

MAX_LEVELS: constant(uint256) = 40
MAX_LEAVES: constant(uint256) = 64
# The gas of a receiver; and the gas that must be left before it is called, so that it gets all of its own and the rest
# of the function can run. Otherwise a caller could make payments fail by sending too little.
RECEIVER_GAS: constant(uint256) = 30_000
GAS_TO_PAY: constant(uint256) = 110_000
UNOPENED: constant(uint256) = 0
OPEN: constant(uint256) = 1
CLOSED: constant(uint256) = 2

CHAIN_ID: public(immutable(uint256))
DELAY: public(immutable(uint256))     # seconds from the publication of a root until it is ripe
WINDOW: public(immutable(uint256))    # seconds from then during which its exits are paid
SILENCE: public(immutable(uint256))   # seconds without a ripe root, or with an open request, until an emergency
MINIMUM: public(immutable(uint256))   # wei

publisher: public(address)
guardian: public(address)
proposals: HashMap[address, HashMap[bool, address]]   # of each key: another publisher, and for True another guardian

states: HashMap[uint64, uint256]
emergency: public(HashMap[uint64, bool])
held: public(HashMap[uint64, uint256])
paid: public(HashMap[uint64, uint256])
owed: public(HashMap[address, uint256])
filled_at: public(HashMap[uint64, uint256])   # when the group went from holding nothing to holding something

deposits: public(HashMap[uint64, uint64])
cumulative: public(HashMap[uint64, HashMap[uint64, uint256]])   # the sum of the first n deposits
depositors: HashMap[uint64, HashMap[uint64, uint256]]           # owner, and the time above its 160 bits
reclaimed: HashMap[uint64, HashMap[uint64, bool]]

newest: HashMap[uint64, Kept]         # the latest accepted root
before: HashMap[uint64, Kept]         # the one before it
used: HashMap[uint64, uint64]         # the greatest number of a root, vetoed ones included
spent: public(HashMap[uint64, HashMap[uint64, HashMap[uint64, bool]]])   # by group, number and index
requests: HashMap[uint64, HashMap[uint64, HashMap[address, uint256]]]   # a Request in one word


@deploy
def __init__(
    publisher: address, guardian: address, delay: uint256, window: uint256, silence: uint256, minimum: uint256
):
    """
    @param publisher The operator's key: opens and closes groups, publishes roots
    @param guardian The key of somebody else, who vetoes roots
    @param delay Seconds from the publication of a root until it is ripe: the guardian's time
    @param window Seconds from then during which its exits are paid
    @param silence Seconds without a ripe root, or with an unanswered request, until an emergency
    @param minimum The least deposit in wei
    """
    assert publisher != empty(address) and guardian != empty(address) and publisher != guardian, "keys"
    # An honest operator needs up to two cycles to answer a request; two more are left for vetoes and faults.
    # The bound on silence keeps every sum of times from overflowing, which would lock the deposits.
    assert delay > 0 and window > 0 and 4 * (delay + window) <= silence and silence < 2**32, "times"
    assert minimum > 0, "minimum"
    CHAIN_ID = chain.id
    DELAY = delay
    WINDOW = window
    SILENCE = silence
    MINIMUM = minimum
    self.publisher = publisher
    self.guardian = guardian


# Hashes and proofs


@internal
@view
def _domain(group: uint64) -> bytes32:
    return sha256(
        concat(b"\x03ledger/vault/1", convert(CHAIN_ID, bytes32), convert(self, bytes20), convert(group, bytes8))
    )


@internal
@view
def _hash(header: Header) -> bytes32:
    return sha256(concat(
        b"\x02",
        self._domain(header.group),
        convert(header.number, bytes8),
        header.previous,
        convert(header.deposits, bytes8),
        convert(header.credited, bytes32),
        convert(header.settled, bytes32),
        convert(header.leaf_count, bytes8),
        convert(header.total, bytes32),
        header.root,
    ))


@internal
@view
def _check(header: Header, leaf: Leaf, proof: DynArray[Node, MAX_LEVELS]):
    """
    @dev Reverts unless the leaf is in the header's tree at its index. The index and the number of leaves determine the
         side of each sibling and how many there are, so no inner node passes for a leaf, and no leaf for two.
         The header must have been compared with a published one: it binds total, root and leaf_count.
    """
    assert leaf.index < header.leaf_count, "index"
    assert leaf.amount <= header.total, "sum"
    sum: uint256 = leaf.amount
    hash: bytes32 = sha256(concat(
        b"\x00",
        self._domain(header.group),
        convert(leaf.participant_id, bytes8),
        convert(leaf.exit_entry, bytes8),
        convert(leaf.owner, bytes20),
        convert(leaf.amount, bytes32),
    ))
    place: uint64 = leaf.index
    last: uint64 = header.leaf_count - 1
    taken: uint256 = 0
    for level: uint256 in range(MAX_LEVELS):
        if last == 0:
            break
        # The last node of a level has no sibling if its place is even: it moves up as it is.
        if place % 2 == 1 or place < last:
            assert taken < len(proof), "proof length"
            node: Node = proof[taken]
            taken += 1
            # Each sum is hashed and bounded by the total: a forged one can neither wrap nor hide money.
            assert node.sum <= header.total - sum, "sum"
            if place % 2 == 1:
                hash = sha256(concat(b"\x01", convert(node.sum, bytes32), node.hash, convert(sum, bytes32), hash))
            else:
                hash = sha256(concat(b"\x01", convert(sum, bytes32), hash, convert(node.sum, bytes32), node.hash))
            sum += node.sum
        place //= 2
        last //= 2
    assert taken == len(proof), "proof length"
    assert sum == header.total, "sum"
    assert hash == header.root, "root"


# Words of three numbers of 64 bits


@internal
@pure
def _pack(first: uint64, second: uint64, third: uint256) -> uint256:
    return (convert(first, uint256) << 128) | (convert(second, uint256) << 64) | third


@internal
@pure
def _unpack(word: uint256) -> (uint64, uint64, uint256):
    return convert(word >> 128, uint64), convert((word >> 64) % 2**64, uint64), word % 2**64


@internal
@view
def _request(group: uint64, participant_id: uint64, owner: address) -> Request:
    request: Request = empty(Request)
    request.present, request.answered, request.at = self._unpack(self.requests[group][participant_id][owner])
    return request


@internal
@pure
def _root(kept: Kept) -> Root:
    root: Root = empty(Root)
    root.number, root.deposits, root.published_at = self._unpack(kept.word)
    root.header = kept.header
    return root


@internal
@view
def _ripe(group: uint64) -> Root:
    """
    @dev The latest root once it is DELAY old, else the one before it, which is ripe because no root is published
         before the window of the one before it is over. In an emergency: the root that it pays.
    """
    root: Root = self._root(self.newest[group])
    if block.timestamp < root.published_at + DELAY:
        root = self._root(self.before[group])
    return root


# Groups and deposits


@external
@nonreentrant
def open(group: uint64):
    """
    @notice Let a group take deposits. Once for each group: a closed one stays closed.
    """
    assert msg.sender == self.publisher, "publisher"
    assert self.states[group] == UNOPENED, "opened before"
    self.states[group] = OPEN
    log Opened(group=group)


@external
@nonreentrant
def close(group: uint64):
    """
    @notice End a group that holds nothing, also after an emergency.
    """
    assert msg.sender == self.publisher, "publisher"
    assert self.states[group] == OPEN, "not open"
    assert self.held[group] == 0, "holds something"
    self.states[group] = CLOSED
    log Closed(group=group)


@external
@payable
@nonreentrant
def deposit(group: uint64, owner: address):
    """
    @notice Deposit the ether that is sent into a group for an owner. The ledger credits it once the block is final.
            If no root includes it within SILENCE, no further root can be published without it; and once an
            emergency is declared, `reclaim` returns it.
    @param group The group, which must be open
    @param owner The address to which alone the money is ever paid: one whose key you hold on this chain
    """
    assert self.states[group] == OPEN, "not open"
    assert not self.emergency[group], "emergency"
    assert msg.value >= MINIMUM, "minimum"
    # Neither could ever be paid.
    assert owner != empty(address) and owner != self, "owner"
    # A stranger's deposit into an idle group must not make its last root look SILENCE old.
    if self.held[group] == 0:
        self.filled_at[group] = block.timestamp
    self.held[group] += msg.value
    index: uint64 = self.deposits[group]
    cumulative: uint256 = self.cumulative[group][index] + msg.value
    self.deposits[group] = index + 1
    self.cumulative[group][index + 1] = cumulative
    self.depositors[group][index] = (block.timestamp << 160) | convert(owner, uint256)
    log Deposit(group=group, index=index, owner=owner, amount=msg.value, cumulative=cumulative)


# Roots


@external
@nonreentrant
def publish(header: Header):
    """
    @notice Publish the next root of a group. It is ripe, and its exits are paid, after DELAY, unless it is vetoed.
    """
    group: uint64 = header.group
    assert msg.sender == self.publisher, "publisher"
    assert self.states[group] == OPEN, "not open"
    assert not self.emergency[group], "emergency"
    latest: Root = self._root(self.newest[group])
    # One root at a time: while one is young or payable, nothing that the next one depends on is settled.
    assert latest.number == 0 or block.timestamp >= latest.published_at + DELAY + WINDOW, "in flight"
    # A number is used once, so what is spent in a root is never spent in another one; and a stolen key cannot
    # use up all numbers with roots that are vetoed.
    used: uint64 = self.used[group]
    assert header.number > used and header.number - used <= 2**32, "number"
    assert header.previous == latest.header, "previous"
    # Deposits that go back could be paid as leaves and then reclaimed.
    count: uint64 = self.deposits[group]
    assert header.deposits >= latest.deposits and header.deposits <= count, "deposits"
    # No deposit is left out for ever while roots keep an emergency away.
    if header.deposits < count:
        assert block.timestamp < (self.depositors[group][header.deposits] >> 160) + SILENCE, "deposit left out"
    # The leaves are worth what the vault holds for the included deposits, to the wei. A difference would be missing
    # for the last participant, or go to an accomplice.
    assert header.credited == self.cumulative[group][header.deposits], "credited"
    assert header.settled == self.paid[group], "settled"
    assert header.total == header.credited - header.settled, "total"
    # The bound keeps every proof within MAX_LEVELS. Without leaves there is nothing to pay and no root.
    assert header.leaf_count <= 2**40, "leaf count"
    assert header.leaf_count > 0 or (header.total == 0 and header.root == empty(bytes32)), "leaf count"

    hash: bytes32 = self._hash(header)
    self.used[group] = header.number
    self.before[group] = self.newest[group]
    self.newest[group] = Kept(header=hash, word=self._pack(header.number, header.deposits, block.timestamp))
    log Published(
        group=group, number=header.number, header=hash, deposits=header.deposits, credited=header.credited,
        settled=header.settled, leaf_count=header.leaf_count, total=header.total, root=header.root,
    )


@external
@nonreentrant
def veto(group: uint64):
    """
    @notice Take back the latest root before it is ripe: the root before it is the latest one again.
    """
    assert msg.sender == self.guardian, "guardian"
    root: Root = self._root(self.newest[group])
    assert root.number != 0, "no root"
    # What is ripe may have been paid and relied on, and is never taken back.
    assert block.timestamp < root.published_at + DELAY, "ripe"
    self.newest[group] = self.before[group]
    self.before[group] = empty(Kept)
    log Vetoed(group=group, number=root.number)


# Payments


@internal
def _pay(group: uint64, owner: address, amount: uint256):
    """
    @dev Every wei that leaves a group leaves here. The books are changed before the call.
    """
    # The last barrier between groups, whatever else has failed.
    assert amount <= self.held[group], "held"
    self.held[group] -= amount
    if amount == 0:
        return
    assert msg.gas >= GAS_TO_PAY, "gas"
    # No returned data is copied. A receiver that refuses ether, or burns its gas, stops no other payment.
    if not raw_call(owner, b"", value=amount, gas=RECEIVER_GAS, revert_on_failure=False):
        self.owed[owner] += amount
        log Owed(owner=owner, amount=amount)


@internal
@view
def _check_payable(header: Header):
    """
    @dev Reverts unless the header is that of the root that is paid now: in an emergency the one that was the last
         ripe one; otherwise the latest one during its window. So `paid` does not change while the next one is made.
    """
    root: Root = self._root(self.newest[header.group])
    assert root.number != 0 and self._hash(header) == root.header, "header"
    if not self.emergency[header.group]:
        assert block.timestamp >= root.published_at + DELAY, "young"
        assert block.timestamp < root.published_at + DELAY + WINDOW, "expired"


@internal
def _withdraw(header: Header, leaf: Leaf, proof: DynArray[Node, MAX_LEVELS]):
    assert leaf.owner != empty(address), "owner"
    # A present participant can transfer their money in the ledger, which does not know of this payment.
    assert leaf.exit_entry != 0 or self.emergency[header.group], "present"
    self._check(header, leaf, proof)
    # By index: by participant, a second leaf of 0 would use up the first one.
    self.spent[header.group][header.number][leaf.index] = True
    self.paid[header.group] += leaf.amount
    self._answer(header, leaf)
    log Paid(
        group=header.group, number=header.number, index=leaf.index, participant_id=leaf.participant_id,
        exit_entry=leaf.exit_entry, owner=leaf.owner, amount=leaf.amount,
    )
    self._pay(header.group, leaf.owner, leaf.amount)


@external
@nonreentrant
def withdraw(header: Header, leaf: Leaf, proof: DynArray[Node, MAX_LEVELS]):
    """
    @notice Pay an exit to its owner during the window of its root; in an emergency every leaf of the last ripe root,
            at any time. Anybody may send this. The money goes to the leaf's owner alone.
            If the owner refuses it, or needs more than 30,000 gas, it is kept for `collect`.
    @param header The header of the root
    @param leaf The leaf
    @param proof Its siblings from the leaf to the root, without those that are missing
    """
    self._check_payable(header)
    assert not self.spent[header.group][header.number][leaf.index], "spent"
    self._withdraw(header, leaf, proof)


@external
@nonreentrant
def withdraw_many(
    header: Header, leaves: DynArray[Leaf, MAX_LEAVES], proofs: DynArray[DynArray[Node, MAX_LEVELS], MAX_LEAVES]
):
    """
    @notice Pay several leaves of one root. Those that are spent already are skipped, so that nobody can stop the
            others by paying one of them first.
    """
    self._check_payable(header)
    assert len(leaves) == len(proofs), "proofs"
    for place: uint256 in range(len(leaves), bound=MAX_LEAVES):
        if not self.spent[header.group][header.number][leaves[place].index]:
            self._withdraw(header, leaves[place], proofs[place])


@external
@nonreentrant
def collect(owner: address):
    """
    @notice Pay to an owner what their address has refused before, with all the gas of this call. Anybody may send this.
    """
    amount: uint256 = self.owed[owner]
    assert amount > 0, "nothing owed"
    self.owed[owner] = 0
    log Collected(owner=owner, amount=amount)
    assert raw_call(owner, b"", value=amount, revert_on_failure=False), "refused"


# The way out without the operator


@external
@nonreentrant
def request_exit(header: Header, leaf: Leaf, proof: DynArray[Node, MAX_LEVELS]):
    """
    @notice Request your exit on the chain, if the operator does not exit you otherwise. The operator has SILENCE to
            pay an exit leaf with your participant id and your address; otherwise anybody may declare an emergency.
            If you are answered by a root in which you are still present, request again with your leaf of that root:
            such an answer does not count, and the time runs from your first request.
    @param header The header of the last ripe root
    @param leaf Your leaf in it, whose owner sends this
    @param proof Its siblings
    """
    group: uint64 = header.group
    assert not self.emergency[group], "emergency"
    assert msg.sender == leaf.owner, "owner"
    assert leaf.exit_entry == 0, "exited"
    # By the last ripe root alone: a young one may be vetoed, and since an older one the participant may have been paid,
    # so that nothing could answer the request.
    root: Root = self._ripe(group)
    assert root.number != 0 and self._hash(header) == root.header, "header"
    self._check(header, leaf, proof)
    request: Request = self._request(group, leaf.participant_id, leaf.owner)
    assert request.at == 0 or request.answered != 0, "requested"
    # If the root with this leaf has paid an exit of the same participant, that exit was a second leaf: a false answer.
    at: uint256 = block.timestamp
    if request.answered == header.number:
        at = request.at
    self.requests[group][leaf.participant_id][leaf.owner] = self._pack(header.number, 0, at)
    log ExitRequested(group=group, participant_id=leaf.participant_id, owner=leaf.owner, number=header.number)


@internal
def _answer(header: Header, leaf: Leaf):
    """
    @dev Only an exit answers, of the same participant and the same owner, in a later root than the one in which the
         participant was shown to be present: another leaf of the same root or of another owner answers nothing.
    """
    if leaf.exit_entry == 0:
        return
    request: Request = self._request(header.group, leaf.participant_id, leaf.owner)
    if request.at != 0 and request.answered == 0 and header.number > request.present:
        self.requests[header.group][leaf.participant_id][leaf.owner] = self._pack(
            request.present, header.number, request.at
        )


@internal
def _declare(group: uint64):
    assert not self.emergency[group], "emergency"
    # In a group that holds nothing there is nothing to pay: ending it would only harm the deposits that follow.
    assert self.held[group] > 0, "holds nothing"
    # A young root does not count: the guardian and the participants have not had DELAY to look at it.
    if block.timestamp < self._root(self.newest[group]).published_at + DELAY:
        self.newest[group] = self.before[group]
        self.before[group] = empty(Kept)
    self.emergency[group] = True
    log Emergency(group=group, number=self._root(self.newest[group]).number)


@external
@nonreentrant
def declare_emergency(group: uint64):
    """
    @notice End a group whose operator is silent: SILENCE after the last ripe root was published, or after the group
            began to hold something, whichever is later. From then on every leaf of the last ripe root is paid by
            `withdraw`, and `reclaim` returns each deposit that this root does not include. There is no way back.
    """
    # Neither a vetoed nor a young root postpones it: with a stolen key they would do so for ever.
    since: uint256 = max(self._ripe(group).published_at, self.filled_at[group])
    assert block.timestamp >= since + SILENCE, "not silent"
    self._declare(group)


@external
@nonreentrant
def declare_emergency_of_request(group: uint64, participant_id: uint64, owner: address):
    """
    @notice End a group in which a requested exit has not been paid within SILENCE.
    """
    request: Request = self._request(group, participant_id, owner)
    assert request.at != 0 and request.answered == 0, "no request"
    assert block.timestamp >= request.at + SILENCE, "not silent"
    self._declare(group)


@external
@nonreentrant
def reclaim(group: uint64, index: uint64):
    """
    @notice Return a deposit to its owner in an emergency, if the root that is paid does not include it.
            Anybody may send this.
    """
    assert self.emergency[group], "no emergency"
    assert index < self.deposits[group], "index"
    # What is included is in the leaves.
    assert index >= self._root(self.newest[group]).deposits, "credited"
    assert not self.reclaimed[group][index], "reclaimed"
    self.reclaimed[group][index] = True
    owner: address = convert(self.depositors[group][index] % 2**160, address)
    amount: uint256 = self.cumulative[group][index + 1] - self.cumulative[group][index]
    log Reclaimed(group=group, index=index, owner=owner, amount=amount)
    self._pay(group, owner, amount)


# Keys


@internal
def _propose(is_guardian: bool, key: address):
    assert msg.sender == self.publisher or msg.sender == self.guardian, "key"
    # Each key has its own proposals: a stolen one cannot overwrite those of the other one.
    self.proposals[msg.sender][is_guardian] = key
    log KeyProposed(is_guardian=is_guardian, key=key, by=msg.sender)


@internal
def _accept(is_guardian: bool, key: address):
    """
    @dev The accepted key is named, so that the proposal cannot be exchanged just before. Only proposals of the other
         key of today count: a publisher cannot propose with an old key and accept with a new one.
    """
    assert msg.sender == self.publisher or msg.sender == self.guardian, "key"
    other: address = self.guardian if msg.sender == self.publisher else self.publisher
    assert key != empty(address) and self.proposals[other][is_guardian] == key, "proposal"
    assert key != self.publisher and key != self.guardian, "keys"
    self.proposals[other][is_guardian] = empty(address)   # accepted once
    if is_guardian:
        self.guardian = key
    else:
        self.publisher = key
    log KeyAccepted(is_guardian=is_guardian, key=key, by=msg.sender)


@external
@nonreentrant
def propose_publisher(key: address):
    """
    @notice Propose another publisher, as the publisher or the guardian. The other one of the two must accept it.
    """
    self._propose(False, key)


@external
@nonreentrant
def propose_guardian(key: address):
    """
    @notice Propose another guardian, as the publisher or the guardian. The other one of the two must accept it.
    """
    self._propose(True, key)


@external
@nonreentrant
def accept_publisher(key: address):
    """
    @notice Accept the publisher that the other key has proposed.
    """
    self._accept(False, key)


@external
@nonreentrant
def accept_guardian(key: address):
    """
    @notice Accept the guardian that the other key has proposed.
    """
    self._accept(True, key)


# Views


@external
@view
def domain(group: uint64) -> bytes32:
    """
    @notice The hash that binds each leaf and header to this chain, this vault and the group.
    """
    return self._domain(group)


@external
@view
def check_proof(header: Header, leaf: Leaf, proof: DynArray[Node, MAX_LEVELS]) -> bytes32:
    """
    @notice Check a leaf against a header, which need not have been published. Reverts if it is not in its tree.
    @return The hash of the header: compare it with that of `ripe` or of an event Published
    """
    self._check(header, leaf, proof)
    return self._hash(header)


@external
@view
def is_open(group: uint64) -> bool:
    """
    @notice Whether the group has been opened and not closed. In an emergency it takes no deposits all the same.
    """
    return self.states[group] == OPEN


@external
@view
def latest(group: uint64) -> Root:
    """
    @notice The latest root that is not vetoed, ripe or not; its number is 0 if there is none.
    """
    return self._root(self.newest[group])


@external
@view
def ripe(group: uint64) -> Root:
    """
    @notice The last ripe root, which an emergency would pay now, or pays; its number is 0 if there is none.
    """
    return self._ripe(group)


@external
@view
def requested(group: uint64, participant_id: uint64, owner: address) -> uint256:
    """
    @notice The time of an unanswered request; 0 if there is none.
    """
    request: Request = self._request(group, participant_id, owner)
    return request.at if request.answered == 0 else 0


@external
@view
def deposit_of(group: uint64, index: uint64) -> (address, uint256, uint256, bool):
    """
    @notice A deposit's owner, amount, time, and whether it has been reclaimed.
    """
    assert index < self.deposits[group], "index"
    word: uint256 = self.depositors[group][index]
    amount: uint256 = self.cumulative[group][index + 1] - self.cumulative[group][index]
    return convert(word % 2**160, address), amount, word >> 160, self.reclaimed[group][index]
