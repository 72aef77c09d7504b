"""What a ternary tensor is: codes and scales, how weights and activations become them, how codes are packed.

One rounding rule holds everywhere: to the nearest integer, halves to the even one (`numpy.rint`). A scale
is always the factor that you multiply by to get the real value.
"""
