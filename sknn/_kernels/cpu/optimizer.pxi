"""Optimizers: one step over a slice of the parameters, while its gradient is in cache.

What the coefficients of an `Update` are is said in optimizers.py.
"""

cdef extern from "optimizer.h" namespace "sknn" nogil:
    cppclass PlainSgdStep "sknn::PlainSgd" [T]:
        T scaled_rate
    cppclass SgdStep "sknn::Sgd" [T]:
        T scaled_rate, momentum, velocity_part, gradient_part
    cppclass AdamStep "sknn::Adam" [T]:
        T learning_rate, beta_1, mean_part, beta_2, root_part, epsilon
    double update[S, T](S, T*, const T*, T*, T*, T, Py_ssize_t)


cdef double sgd_update(const Update* u, floating* p, const floating* g, floating** slots,
                       Py_ssize_t n) noexcept nogil:
    cdef PlainSgdStep[floating] plain
    cdef SgdStep[floating] step
    cdef floating scaled_rate = <floating>(u.learning_rate / u.weight_sum)
    if slots[0] == NULL:
        plain.scaled_rate = scaled_rate
        return update(plain, p, g, slots[0], slots[1], <floating>u.decay, n)
    step.scaled_rate = scaled_rate
    step.momentum = <floating>u.coefficients[0]
    cdef bint nesterov = u.coefficients[1] != 0
    step.velocity_part = step.momentum if nesterov else 1
    step.gradient_part = scaled_rate if nesterov else 0
    return update(step, p, g, slots[0], slots[1], <floating>u.decay, n)


cdef double adam_update(const Update* u, floating* p, const floating* g, floating** slots,
                        Py_ssize_t n) noexcept nogil:
    cdef AdamStep[floating] step
    step.learning_rate = <floating>u.learning_rate
    step.beta_1 = <floating>u.coefficients[0]
    step.mean_part = <floating>((1 - u.coefficients[0]) / u.weight_sum)
    step.beta_2 = <floating>u.coefficients[1]
    step.root_part = <floating>(sqrt(1 - u.coefficients[1]) / u.weight_sum)
    step.epsilon = <floating>u.coefficients[2]
    return update(step, p, g, slots[0], slots[1], <floating>u.decay, n)


TABLE.update32[<int>SGD] = sgd_update[float]
TABLE.update64[<int>SGD] = sgd_update[double]
TABLE.update32[<int>ADAM] = adam_update[float]
TABLE.update64[<int>ADAM] = adam_update[double]
