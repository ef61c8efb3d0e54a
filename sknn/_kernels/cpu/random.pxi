"""Counter-based random numbers, as an op with a random stream draws them."""

cdef extern from "formulas.h" namespace "sknn" nogil:
    ctypedef struct Block:
        uint32_t word[4]
    Block block_of "sknn::philox"(uint32_t, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t)


def philox(counter, key):
    """Philox 4x32-10 of one counter (four words) and key (two words); four words.

    References
    ----------
    Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011.
    """
    cdef Block block = block_of(
        counter[0], counter[1], counter[2], counter[3], key[0], key[1])
    return [block.word[i] for i in range(4)]
