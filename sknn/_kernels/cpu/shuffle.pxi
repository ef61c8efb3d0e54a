"""`RandomState.shuffle` of an order, without the GIL and without waiting for memory.

The draws are NumPy's, so that the order and the generator's state after it are the same bit for
bit. Of a block of swaps, the partners are drawn first and fetched into the cache meanwhile.
"""

from numpy.random cimport bitgen_t

cdef extern from *:
    void prefetch "__builtin_prefetch"(const void*, int) noexcept nogil

cdef enum:
    SWAPS_PER_BLOCK = 256
    # Rows whose order takes so long that others get the GIL meanwhile. The generator's lock is
    # then held while this thread waits for the GIL, and a child that is forked would find it
    # locked.
    LONG = 1 << 17


cdef void swap_with_earlier(bitgen_t* generator, int64_t* order, int64_t n) noexcept nogil:
    """Fisher-Yates from the end: each with a partner drawn from those up to it."""
    cdef int64_t partners[SWAPS_PER_BLOCK]
    cdef int64_t last = n - 1, mask = 1, block, k
    while mask < last:
        mask = 2 * mask + 1
    while last > 0:
        if last <= mask >> 1:
            mask >>= 1
        block = min(<int64_t>SWAPS_PER_BLOCK, last - (mask >> 1))  # all have this mask
        k = 0
        while k < block:
            partners[k] = generator.next_uint32(generator.state) & mask
            prefetch(order + partners[k], 1)
            k += partners[k] <= last - k    # else it is overwritten by the next draw
        for k in range(block):
            order[last - k], order[partners[k]] = order[partners[k]], order[last - k]
        last -= block


def shuffle(int64_t[::1] order, random_state):
    """Do ``random_state.shuffle(order)``.

    Parameters
    ----------
    order : ndarray of int64
    random_state : RandomState
    """
    cdef int64_t n = order.shape[0]
    cdef bitgen_t* generator
    # a subclass may draw in another way, and NumPy draws 64 bits for so many rows
    if type(random_state) is not np.random.RandomState or n > 1 << 32:
        random_state.shuffle(np.asarray(order))
    elif n > 1:
        bit_generator = random_state._bit_generator
        generator = <bitgen_t*>PyCapsule_GetPointer(bit_generator.capsule, b"BitGenerator")
        with bit_generator.lock:
            if n < LONG:
                swap_with_earlier(generator, &order[0], n)
            else:
                with nogil:
                    swap_with_earlier(generator, &order[0], n)
