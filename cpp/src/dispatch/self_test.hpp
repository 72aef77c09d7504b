// The self-test of a table: every operation against the reference on small, awkward shapes, equal to the last bit.
#pragma once

#include <string>
#include <vector>

#include "tercet/kernel_table.hpp"

namespace tercet {

struct SelfTestResult {
    std::string operation;
    bool passed;
    std::string detail;  // what differed, when it failed
};

// One result for each operation that computes or reads. Takes under two milliseconds.
std::vector<SelfTestResult> self_test(const KernelTable& table, const KernelTable& reference);

// Its parts, each adding to the results.
void test_ternary_kernels(const TernaryKernels& kernels, const TernaryKernels& reference,
                          std::vector<SelfTestResult>& results);
void test_float_kernels(const FloatKernels& kernels, const FloatKernels& reference,
                        std::vector<SelfTestResult>& results);
void test_memory_readers(const ProbeKernels& kernels, const ProbeKernels& reference,
                         std::vector<SelfTestResult>& results);

}  // namespace tercet
