// The self-test of a table: every operation against the reference on small, awkward shapes.
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

// One result for each tested operation. Takes under two milliseconds.
std::vector<SelfTestResult> self_test(const KernelTable& table, const KernelTable& reference);

}  // namespace tercet
