// One wording for operands that do not fit: operation, operand, what was expected, what was found.
#pragma once

#include <stdexcept>
#include <string>

namespace tercet {

[[noreturn]] inline void reject(const std::string& operation, const std::string& operand, const std::string& expected,
                                const std::string& got) {
    throw std::invalid_argument(operation + ": " + operand + " should be " + expected + ", got " + got);
}

}  // namespace tercet
