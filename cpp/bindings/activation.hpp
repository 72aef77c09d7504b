// The activation of a gated feed-forward by its name.
#pragma once

#include "bindings.hpp"
#include "tercet/decoder.hpp"

namespace tercet::bindings {

inline Activation activation_named(const std::string& operation, const std::string& operand, const std::string& name) {
    if (name == "relu2") return Activation::relu2;
    if (name == "silu") return Activation::silu;
    if (name == "gelu_tanh") return Activation::gelu_tanh;
    reject(operation, operand, "'relu2', 'silu' or 'gelu_tanh'", "'" + name + "'");
}

}  // namespace tercet::bindings
