"""The GPU executor: the same program and verbs as on the CPU, replayed from CUDA graphs.

A graph holds some steps and takes nothing from the host: what changes between replays lies in
device memory (`Progress` in device.h). All memory is one arena, allocated before.
"""

import warnings
from contextlib import closing

import numpy as np

from sknn._kernels.gpu.epoch import Epoch, Layout
from sknn._kernels.gpu.kernels import LOSS_BLOCKS, Matrix, copy_rows, sum_blocks
from sknn._kernels.gpu.lowering import lower_for_gpu
from sknn._kernels.gpu.rows import ResidentRows, place_rows
from sknn._kernels.gpu.source import PLAIN_SGD, THREADS, formula, kernel_name, rule_name
from sknn._kernels.gpu.table import TABLE
from sknn._kernels.ops import Arena, Phase
from sknn._program import zero_weight

# steps of a graph; as few as make its launch cost nothing
STEPS_PER_GRAPH = 32
# Rows whose values are held at once; the gradients of parts of a larger minibatch are added up.
# Fewer were measured to be slower.
CHUNK_ROWS = 1 << 16
# and fewer where these values, or their gradients, would take so many bytes
CHUNK_BYTES = 2 << 30
# graphs under way, beyond which the host waits, so that Ctrl-C works
GRAPHS_AHEAD = 4
# parameters that a thread of an update takes
UPDATED_EACH = 4
# rows of a part below which a network is not cut where memory is short
FEWEST_ROWS = 512
# vectors that an optimizer keeps, at most
MAX_SLOTS = 2


class Run:
    """What the functions of `kernels` see of one step.

    Attributes
    ----------
    driver : Driver
    dtype : dtype
    phase : Phase
    n, first : int
        Rows of the minibatch, or of the part of it that begins at ``first``.
    rows : tuple
        Addresses of the progress and the order, the step, and the rows of a whole minibatch:
        how kernels find their rows.
    accumulate : bool
        Whether gradients of parameters are added to what is there.
    moves_state : bool
        Whether running statistics follow the minibatch's.
    workspace : int
        Address of scratch of what runs one after the other, forward and backward.
    csr : tuple
        Where X is sparse, addresses of its numbers, their columns, and where rows begin.
    n_losses : int
        Blocks that each wrote a sum of losses.
    n_sums : dict of int to int
        Of an op, blocks that each wrote column sums of its gradient.
    gated : set of int
        Ops whose gradient was made before their activation, by the op behind.
    """

    def __init__(self, executor, phase, step, n, batch, first=0):
        self.executor, self.driver, self.dtype = executor, executor.driver, executor.dtype
        self.phase, self.n, self.first = phase, n, first
        self.accumulate = self.moves_state = False
        self.workspace = executor.at("workspace")
        self.n_losses, self.n_sums, self.gated = 0, {}, set()
        at = executor.at
        self.losses = at("losses")
        self.input = Matrix(
            at("input"), n, executor.program.n_features, executor.program.input_stride
        )
        self.rows = at("progress"), at("order") + 8 * first, step, batch
        self.targets, self.weights = executor.targets, executor.weights

    def _table(self, arena, offset, operand):
        address = self.executor.at(arena, offset * self.executor.capacity + operand.start)
        return Matrix(address, self.n, operand.width, operand.stride)

    def value(self, operand):
        """The minibatch's rows of a value."""
        if operand.arena == Arena.INPUT:
            return self.input
        return self._table("values", operand.offset, operand)

    def gradient(self, operand):
        """And their gradients; the address is 0 if nobody wants them."""
        if operand.grad_offset < 0:
            return self.value(operand)._replace(address=0)
        return self._table("gradients", operand.grad_offset, operand)

    def pixels(self, operand):
        """A value as a matrix whose rows are the pixels of all images."""
        return self._by_pixels(self.value(operand), operand)

    def pixel_gradients(self, operand):
        """And its gradient."""
        return self._by_pixels(self.gradient(operand), operand)

    def _by_pixels(self, table, operand):
        height, width, channels = operand.shape
        if height * width == 1:
            return table
        return Matrix(table.address, self.n * height * width, channels, operand.pixel_stride)

    def bytes(self, operand):
        """Address of one byte for each element of an operand, without gaps."""
        return self.executor.byte_address(operand.offset * self.executor.capacity)

    def _segment(self, vector, op, index):
        offset, rows, columns = self.executor.program.segments[op.segments[index]]
        return Matrix(self.executor.at(vector, offset), rows, columns, columns)

    def parameter(self, op, index):
        """One of the op's segments of parameters."""
        return self._segment("parameters", op, index)

    def parameter_gradient(self, op, index):
        """Its gradient."""
        return self._segment("parameter_gradients", op, index)

    def state(self, op):
        """Address of an op's running statistics."""
        return self.executor.at("state", op.state)

    def statistics(self, op):
        """Address of what the minibatch says of an op's channels."""
        return self.executor.at("statistics", op.statistics)

    def sums(self, op, place=0):
        """Address of the column sums of one of an op's gradients, one row for each block."""
        offset = self.executor.program.sum_offsets[op.index] + place * op.y.shape[2]
        return self.executor.at("sums", offset * self.executor.sum_blocks)

    def before(self, op):
        """The op whose activation the gradient of this one's input may take in; or None."""
        return self.executor.program.ops[op.before] if op.before >= 0 else None

    def neighbour(self, op, offset):
        """The op so many rows behind; or None."""
        executor, i = self.executor, op.index + offset
        ops = (executor.program if self.phase == Phase.TRAIN else executor.predicts).ops
        return ops[i] if 0 <= i < len(ops) else None

    def product(self, out, a, b, **options):
        """out = a b, or added to it; whether the driver can do that with this epilogue."""
        return self.driver.product(
            out, a, b, dtype=self.dtype, precision=self.executor.precision, **options
        )

    def gradient_ready(self):
        """From here on, the op's gradients of parameters may be made beside what follows."""
        self.driver.fork()


class Executor:
    """Trains one program on a GPU, in memory allocated once.

    Parameters
    ----------
    program : sknn._program.Program
    dtype : dtype, float32 or float64
        What it computes in.
    capacity : int
        Rows of a minibatch or of a prediction's part, at most.
    driver : Driver
        Of the device, or a simulation of it.
    precision : {'float32', 'tf32', 'bfloat16'}
        Of matrix products, when computing in float32.
    trains : bool
        Whether it is to train, which takes more memory.

    Raises
    ------
    NotImplementedError
        If an op has no GPU side.
    MemoryError
        If the device has too little memory; says how much was asked for.
    """

    def __init__(self, program, *, dtype, capacity, driver, precision="float32",
                 trains=True):  # fmt: skip
        self.sparse = program.sparse
        self.predicts = lower_for_gpu(program, Phase.PREDICT)
        self.program = lower_for_gpu(program, Phase.TRAIN) if trains else self.predicts
        self.dtype = np.dtype(dtype)
        self.capacity = rows_at_once(self.program, int(capacity), self.dtype.itemsize, trains)
        self.driver, self.precision = driver, precision
        self.most_rows = int(capacity)  # of a minibatch
        self.X = self.arrays = None
        self.targets = self.weights = 0
        self.state = None  # on the host; the device has the newest
        self.pinned = driver.pinned
        self.graphs, self.captures = {}, True
        self.epoch = Epoch(driver, self.program.ranges)
        self.parameters = self.optimizer = None  # whose copies the device has
        with driver.active():
            driver.load_kernels(self.dtype, precision)
            while not self._allocate(int(capacity), trains):
                self.capacity //= 2

    # ---- memory ---------------------------------------------------------------------------

    def _allocate(self, capacity, trains):
        """Make the arena; False if parts of half as many rows may fit where these do not."""
        program, n, itemsize = self.program, self.capacity, self.dtype.itemsize
        n_trained = program.n_parameters * trains
        layout = Layout()
        for name, size in (
            ("values", program.value_size * n),
            ("gradients", program.value_size * n * trains),
            ("input", program.input_stride * n * (not self.sparse)),
            ("parameters", program.n_parameters),
            ("state", program.n_state),
            ("statistics", program.statistics_size),
            ("slots", MAX_SLOTS * n_trained),
            ("parameter_gradients", n_trained),
        ):
            layout.add(name, size, itemsize)
        self.sum_blocks = sum_blocks(n * program.most_pixels)
        layout.add("sums", program.sum_width * self.sum_blocks * trains, itemsize)
        layout.add("bytes", program.bytes_size * n * trains, 1)
        scratch = (TABLE[op.opcode].workspace(op, n, itemsize) for op in program.ops)
        layout.add("workspace", max(scratch), 1)
        n_parts = max(STEPS_PER_GRAPH, -(-capacity // self.capacity))
        layout.add("losses", n_parts * LOSS_BLOCKS, 8)
        layout.add("penalties", STEPS_PER_GRAPH * update_blocks(program), 8)
        layout.add("step_losses", STEPS_PER_GRAPH, 8)
        try:
            self.arena = self.driver.allocate(layout.n_bytes)
        except MemoryError:
            if n <= FEWEST_ROWS or (trains and needs_whole_minibatch(program)):
                raise
            return False
        self.layout = layout
        # padding between segments has no gradient
        self.driver.fill_zero(self.at("parameter_gradients"), n_trained * itemsize)
        return True

    def at(self, name, offset=0):
        """Address of an element of the compute type in a part of the arena."""
        base = self.layout.offsets.get(name)
        if base is None:
            return self.epoch.at(name)
        return self.driver.address(self.arena) + base + offset * self.dtype.itemsize

    def byte_address(self, offset):
        """Address in the arena of bytes."""
        return self.at("bytes") + offset

    def bind(self, X, targets=None, weights=None, state=None, seed=0):
        """Take the data of the runs that follow to the device.

        Parameters
        ----------
        X : array of shape (n_samples, n_features), C-ordered float32, float64 or uint8, or CSR
            Of the host or of the device. An array that does not fit stays on the host and
            must not change; its rows come as they are needed.
        targets : array, int32 class indices or C-ordered rows of the executor's dtype
        weights : array of float64 of shape (n_samples,) or None
        state : array of the executor's dtype or None
            Running statistics, as long as the program says; `fetch` changes them.
        seed : int
            Of the program's random ops.
        """
        self.seed = seed
        if X.shape[1] != self.program.n_features:
            raise ValueError(
                f"X has {X.shape[1]} features, but the program takes {self.program.n_features}."
            )
        with self.driver.active():
            self.graphs.clear()
            self.X = self.arrays = None  # makes room
            arrays = [None if a is None else self.driver.to_device(a) for a in (targets, weights)]
            targets, weights = self.arrays = arrays
            # the order and the predictions of all rows have to fit, too
            row_bytes = 8 + self.predicts.output.width * self.dtype.itemsize
            self.X = place_rows(self.driver, X, self.most_rows, row_bytes * X.shape[0])
            self.host_weights = None if weights is None else self.driver.to_host(weights)
            self.targets = 0 if targets is None else self.driver.address(targets)
            self.weights = 0 if weights is None else self.driver.address(weights)
            self._take_state(state)

    def _take_state(self, state):
        n = self.program.n_state
        if n and (state is None or state.dtype != self.dtype or state.shape != (n,)):
            raise ValueError(f"The program keeps {n} running statistics of {self.dtype}.")
        self.state = state if n else None
        if n:
            self.driver.upload(self.at("state"), state)

    # ---- steps ----------------------------------------------------------------------------

    def _forward(self, run):
        self.X.gather(run, self.program.x_scale)
        program = self.program if run.phase == Phase.TRAIN else self.predicts
        for op in program.ops:
            if op.phases & run.phase:
                TABLE[op.opcode].forward(run, op)

    def _backward(self, run):
        for op in reversed(self.program.ops):
            if not op.phases & run.phase or op.y.grad_offset < 0:
                continue
            kernels = TABLE[op.opcode]
            kernels.backward(run, op)
            if kernels.gradient is not None and any(op.trains):
                with self.driver.beside():
                    kernels.gradient(run, op)
        self.driver.join()

    def _update(self, step, optimizer):
        blocks = update_blocks(self.program)
        rule = PLAIN_SGD if optimizer.is_plain_descent else formula(optimizer.opcode)
        rule = rule_name(rule.removeprefix("sknn::"), self.dtype)
        coefficients = (*map(float, optimizer.coefficients), 0.0, 0.0)[:3]
        self.driver.launch(
            kernel_name("update", rule, self.dtype), blocks, self.at("parameters"),
            self.at("parameter_gradients"), self.at("slots"), self.at("penalties"),
            self.at("ranges"), self.at("rates"), self.at("scales"), self.at("progress"),
            step, self.program.n_parameters, *coefficients,
        )  # fmt: skip
        return blocks

    def _finish(self, n_losses, n_steps, n_penalties, n_rows):
        self.driver.launch(
            kernel_name("finish_steps"), 1, self.at("progress"), self.at("step_losses"),
            self.at("losses"), n_losses, self.at("penalties"), n_penalties,
            self.at("scales"), n_steps, float(n_rows),
        )  # fmt: skip

    def _train_steps(self, n_steps, n, batch, optimizer):
        """Launch some steps of n rows each."""
        for step in range(n_steps):
            n_losses = 0
            for first in range(0, n, self.capacity):
                run = Run(self, Phase.TRAIN, step, min(self.capacity, n - first), batch, first)
                run.accumulate, run.moves_state = first > 0, True
                run.losses += 8 * n_losses
                self._forward(run)
                self._backward(run)
                n_losses += run.n_losses
            n_penalties = self._update(step, optimizer)
        self._finish(n_losses, n_steps, n_penalties, n)

    def _evaluate_steps(self, n_steps, n, batch):
        for step in range(n_steps):
            run = Run(self, Phase.TRAIN, step, n, batch)
            run.accumulate = True
            self._forward(run)
            self._backward(run)
        self._finish(run.n_losses, n_steps, 0, 1)

    def _graph(self, key, launch):
        """A graph of what ``launch`` launches, or where that cannot be captured, itself."""
        if key not in self.graphs:
            self.driver.prepare(launch)
            graph = self.driver.capture(launch) if self.captures else None
            if graph is None and self.captures:
                self.captures = False
                warnings.warn(
                    "The CUDA graph could not be captured, so every kernel is launched by "
                    "itself: results are the same, but small steps take longer.",
                    RuntimeWarning,
                )
            self.graphs[key] = graph or launch
        return self.graphs[key]

    def _graphs(self, kind, n_rows, batch, launch):
        """What takes all rows, ``launch(n_steps, n, batch)`` at a time, and how many each."""
        # parts of a minibatch each write losses, as steps do
        most = STEPS_PER_GRAPH if batch <= self.capacity else 1
        parts = schedule(n_rows, batch, min(most, self.X.most_steps(batch) or most))
        graphs = {
            part: self._graph((kind, *part, batch), lambda part=part: launch(*part, batch))
            for part in dict.fromkeys(parts)
        }
        return [(graphs[part], part[0] * part[1]) for part in parts]

    def _replay(self, graphs, order, batch):
        """One after the other, not too far ahead of the device."""
        events = []
        if not isinstance(self.X, ResidentRows):  # the host sends them
            order = self.epoch.on_host(order)
        with closing(self.X.feed(order, batch, [n for _, n in graphs])) as fed:
            for (graph, _), _ in zip(graphs, fed, strict=False):
                graph()
                events.append(self.driver.record())
                if len(events) > GRAPHS_AHEAD:
                    self.driver.wait(events.pop(0))

    # ---- verbs ----------------------------------------------------------------------------

    def train_epoch(self, parameters, optimizer, order, batch_size, alpha, in_order=False,
                    n_seen=0):  # fmt: skip
        """One pass over the rows of ``order``; parameters on the host follow at `fetch`.

        Parameters and errors are those of the CPU's executor. The order may be a `DrawnOrder`.
        """
        kind = "train", optimizer.opcode, optimizer.is_plain_descent, optimizer.coefficients
        with self.driver.active():
            self._begin(order, -(-len(order) // batch_size), in_order)
            scales, n_rows = self.epoch.scales(order, batch_size, self.host_weights, self.weights)
            graphs = self._graphs(
                kind, n_rows, batch_size, lambda *part: self._train_steps(*part, optimizer)
            )
            self._take_training(parameters, optimizer)
            rates = optimizer.learning_rates(len(scales))
            self.epoch.take_numbers(scales, rates, alpha, n_seen, self.seed)
            try:
                self._replay(graphs, order, batch_size)
            finally:
                progress = self.epoch.progress()
                optimizer.advance(int(progress["first_step"]))
        if n_rows < len(order):
            raise zero_weight(" of a minibatch", ", or raise batch_size")
        return float(progress["loss"]) / len(order)

    def _begin(self, order, n_steps, in_order):
        """Have the device take the rows of an epoch."""
        if self.epoch.make_room(len(order), n_steps):
            self.graphs.clear()
        self.epoch.take_order(order, in_order)

    def _take_training(self, parameters, optimizer):
        """Parameters and slots to the device, unless they are there."""
        if self.optimizer is optimizer and self.parameters is parameters:
            return
        self._take_parameters(parameters)
        for slot in optimizer.slots:
            self._check_vector(slot)
        if optimizer.slots.size:
            self.driver.upload(self.at("slots"), np.ascontiguousarray(optimizer.slots))
        self.optimizer = optimizer

    def _take_parameters(self, parameters):
        self._check_vector(parameters)
        self.driver.upload(self.at("parameters"), parameters)
        self.parameters, self.optimizer = parameters, None

    def _check_vector(self, vector):
        if vector.dtype != self.dtype or vector.shape != (self.program.n_parameters,):
            raise ValueError(
                f"The program has {self.program.n_parameters} parameters of {self.dtype}, but "
                f"was given a vector of shape {vector.shape} and {vector.dtype}."
            )

    def fetch(self):
        """Copy parameters, slots and state to the arrays that the verbs were given."""
        if self.optimizer is None:
            return
        with self.driver.active():
            self.driver.download(self.parameters, self.at("parameters"))
            if self.state is not None:
                self.driver.download(self.state, self.at("state"))
            slots = np.empty_like(self.optimizer.slots, order="C")
            if slots.size:
                self.driver.download(slots, self.at("slots"))
                self.optimizer.slots[...] = slots

    def evaluate(self, parameters, gradient, order):
        """Loss of all rows, without penalty, and its gradient; as on the CPU."""
        self._check_vector(gradient)
        n_steps = -(-len(order) // self.capacity)
        with self.driver.active():
            self._begin(order, n_steps, True)
            graphs = self._graphs("evaluate", len(order), self.capacity, self._evaluate_steps)
            self._take_parameters(parameters)
            self.epoch.take_numbers(np.ones(n_steps), np.zeros(n_steps), 0.0, 0, self.seed)
            self.driver.fill_zero(self.at("parameter_gradients"), gradient.nbytes)
            self._replay(graphs, order, self.capacity)
            self.driver.download(gradient, self.at("parameter_gradients"))
            return float(self.epoch.progress()["loss"])

    def predict(self, parameters, rows=None):
        """What the program predicts for rows of the bound X, as an array of the device.

        Parameters
        ----------
        parameters : ndarray, the flat vector; of one that is trained the device has the newest
        rows : ndarray of int64, default=None
            Which rows of X; None is all.
        """
        n = self.X.shape[0] if rows is None else len(rows)
        order = np.arange(n) if rows is None else rows
        output = self.predicts.output
        with self.driver.active():
            self._begin(order, 1, rows is None)
            if self.parameters is not parameters:
                self._take_parameters(parameters)
            self.epoch.take_numbers(np.ones(1), np.zeros(1), 0.0, 0, self.seed)
            out = self.driver.empty_for_caller((n, output.width), self.dtype)
            sizes = [size for _, size in schedule(n, self.capacity, 1)]
            with closing(self.X.feed(order, self.capacity, sizes)) as fed:
                for step, size in enumerate(fed):
                    run = Run(self, Phase.PREDICT, step, size, self.capacity)
                    self._forward(run)
                    copy_rows(run, self._rows_of(out, step, size), run.value(output))
            self.driver.synchronize()
        return out

    def _rows_of(self, out, step, n):
        """The rows that a step of a prediction makes."""
        width = out.shape[1]
        first = step * self.capacity * width * self.dtype.itemsize
        return Matrix(self.driver.address(out) + first, n, width, width)

    def predict_rows(self, program, parameters, rows, n_threads):
        """The same on the host; the program is the executor's, the threads are the CPU's."""
        return self.driver.to_host(self.predict(parameters, rows))


def needs_whole_minibatch(program):
    """Whether an op does, so that it cannot be taken in parts."""
    return any(TABLE[op.opcode].whole for op in program.ops)


def rows_at_once(program, capacity, itemsize, trains):
    """Rows of a minibatch, of which the rest follows in further parts if no op needs all."""
    if trains and needs_whole_minibatch(program):
        return capacity
    return max(1, min(capacity, CHUNK_ROWS, CHUNK_BYTES // (program.value_size * itemsize)))


def update_blocks(program):
    """Blocks of an update of all parameters."""
    return -(-program.n_parameters // (THREADS * UPDATED_EACH))


def schedule(n_rows, batch, most_steps=STEPS_PER_GRAPH):
    """(steps, rows of each) of the graphs that take all rows, one after the other."""
    n_full, tail = divmod(n_rows, batch)
    parts = [(most_steps, batch)] * (n_full // most_steps)
    if n_full % most_steps:
        parts.append((n_full % most_steps, batch))
    if tail:
        parts.append((1, tail))
    return parts
