// What the binding files share: the ways a table is named, and one wording for arguments that do not fit.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <optional>
#include <stdexcept>
#include <string>

#include "tercet/kernel_table.hpp"

namespace tercet::bindings {

namespace nb = nanobind;

// None means TERCET_ISA or the best available instruction set.
using IsaName = std::optional<std::string>;

inline const KernelTable& table_of(const IsaName& isa) { return kernel_table(choose_isa(isa.value_or("")).isa); }

// Throws tercet.errors.ParameterError: which operation, which operand, what it should be, what it is.
[[noreturn]] inline void reject(const std::string& operation, const std::string& operand, const std::string& expected,
                                const std::string& got) {
    throw std::invalid_argument(operation + ": " + operand + " should be " + expected + ", got " + got);
}

inline std::size_t checked_size(const std::string& operation, const std::string& operand, std::int64_t size,
                                std::size_t most) {
    if (size < 1 || static_cast<std::size_t>(size) > most)
        reject(operation, operand, "1 to " + std::to_string(most), std::to_string(size));
    return static_cast<std::size_t>(size);
}

inline void check_threads(const std::string& operation, std::int64_t threads) {
    checked_size(operation, "threads", threads, 1024);
}

}  // namespace tercet::bindings
