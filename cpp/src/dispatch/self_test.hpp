// The self-test of a table: every operation against the reference on small, awkward shapes, equal to the last bit.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "tercet/kernel_table.hpp"

namespace tercet {

struct SelfTestResult {
    std::string operation;
    bool passed;
    std::string detail;  // what differed, when it failed
};

// What operations are tried with. cpp/tests/kernel_equality.cpp tries many more than are tried at start-up.
struct SelfTestShapes {
    struct Product {
        std::size_t row_tiles, depth, tokens;
    };
    std::span<const Product> products;    // of ternary matrices and of planes
    std::span<const std::size_t> sizes;   // of rows of floats
};
SelfTestShapes start_up_shapes() noexcept;

// One result for each operation that computes or reads. Takes under two milliseconds with the shapes of start-up.
std::vector<SelfTestResult> self_test(const KernelTable& table, const KernelTable& reference,
                                      const SelfTestShapes& shapes = start_up_shapes());

// Its parts, each adding to the results.
void test_ternary_kernels(const SelfTestShapes& shapes, const TernaryKernels& kernels, const TernaryKernels& reference,
                          std::vector<SelfTestResult>& results);
void test_float_kernels(const SelfTestShapes& shapes, const FloatKernels& kernels, const FloatKernels& reference,
                        std::vector<SelfTestResult>& results);
void test_head_kernels(const SelfTestShapes& shapes, const HeadKernels& kernels, const HeadKernels& reference,
                       std::vector<SelfTestResult>& results);
void test_memory_readers(const ProbeKernels& kernels, const ProbeKernels& reference,
                         std::vector<SelfTestResult>& results);

}  // namespace tercet
