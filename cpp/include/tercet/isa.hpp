// Which instruction set the arithmetic uses: what this processor and operating system have, and what was asked for.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "tercet/isa_list.hpp"

namespace tercet {

// An instruction set was demanded that this processor, operating system or build lacks, or whose kernels are wrong
// here. Python sees tercet.errors.IsaError.
class IsaError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

const char* isa_name(Isa isa) noexcept;

// The features of cpu_feature_list that this processor has and this operating system lets programs use.
std::vector<std::string> usable_cpu_features();

// The processor's own name for itself, or "unknown processor".
std::string cpu_name();

// Instruction sets of this build that run here, the reference first, the most wanted last.
std::vector<Isa> available_isas();

struct IsaChoice {
    Isa isa;
    std::string reason;
};

// The instruction set by name, or for an empty name that of TERCET_ISA, or the best available one.
// Throws IsaError, listing what there is, when the name is unknown or the processor lacks it.
IsaChoice choose_isa(std::string_view requested = {});

}  // namespace tercet
