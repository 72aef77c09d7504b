// The table of kernels of one instruction set.
//
// A table begins as a copy of the reference table, then the instruction set's own folder (its table.cpp) replaces what
// it has something better for: every pointer is always valid, and a new folder may hold a single kernel and be useful.
#pragma once

#include "tercet/float_kernels.hpp"
#include "tercet/head_kernels.hpp"
#include "tercet/isa.hpp"
#include "tercet/probe_kernels.hpp"
#include "tercet/ternary_kernels.hpp"

namespace tercet {

struct KernelTable {
    Isa isa;
    TernaryKernels ternary;
    FloatKernels floats;
    HeadKernels head;
    ProbeKernels probes;
};

// The table of an instruction set, whether this processor has it or not, before any self-test.
KernelTable assemble_kernels(Isa isa) noexcept;

// The table of an instruction set, self-tested the first time it is asked for. Throws IsaError when the processor lacks
// it, or naming the kernel whose result differs from the reference. Tables live as long as the process.
const KernelTable& kernel_table(Isa isa);

// One operation of a table: which folder of cpp/src/kernels provides it, and whether it passed its self-test.
struct OperationReport {
    std::string operation;
    std::string provided_by;
    bool passed;
    std::string detail;
};

// Runs the self-test of every operation of an available instruction set, failing or not.
std::vector<OperationReport> inspect_kernels(Isa isa);

}  // namespace tercet
