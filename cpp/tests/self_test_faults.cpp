// Breaks one kernel of a table at a time and asks the self-test: it must name exactly that one.
#include <cstdio>

#include "dispatch/self_test.hpp"

namespace tercet::reference {
void install(KernelTable& table) noexcept;
}

namespace tercet {
namespace {

// A kernel that does nothing and returns zero.
template <class Result, class... Operands>
Result nothing(Operands...) noexcept {
    return Result();
}

template <class Result, class... Operands>
void disable(Result (*&kernel)(Operands...) noexcept) {
    kernel = nothing<Result, Operands...>;
}

template <class Try>
void for_each_operation(KernelTable& table, Try&& attempt) {
    attempt("matmul_two_bit", table.ternary.matmul_two_bit);
    attempt("matmul_five_per_byte", table.ternary.matmul_five_per_byte);
    attempt("matmul_two_bit_grouped", table.ternary.matmul_two_bit_grouped);
    attempt("multiply_two_bit_floats", table.ternary.multiply_two_bit_floats);
    attempt("pack_two_bit", table.ternary.pack_two_bit);
    attempt("pack_five_per_byte", table.ternary.pack_five_per_byte);
    attempt("unpack_two_bit", table.ternary.unpack_two_bit);
    attempt("unpack_five_per_byte", table.ternary.unpack_five_per_byte);
    attempt("quantize", table.floats.quantize);
    attempt("rms_norm", table.floats.rms_norm);
    attempt("gated_relu2", table.floats.gated_relu2);
    attempt("gated_silu", table.floats.gated_silu);
    attempt("gated_gelu_tanh", table.floats.gated_gelu_tanh);
    attempt("rescale", table.floats.rescale);
    attempt("rescale_add", table.floats.rescale_add);
    attempt("rotate", table.floats.rotate);
    attempt("hadamard", table.floats.hadamard);
    attempt("softmax", table.floats.softmax);
    attempt("merge_softmax", table.floats.merge_softmax);
    attempt("dot_rows_f32", table.floats.dot_rows_f32);
    attempt("dot_rows_f16", table.floats.dot_rows_f16);
    attempt("dot_rows_bf16", table.floats.dot_rows_bf16);
    attempt("dot_rows_i8", table.floats.dot_rows_i8);
    attempt("add_weighted_rows_f32", table.floats.add_weighted_rows_f32);
    attempt("add_weighted_rows_f16", table.floats.add_weighted_rows_f16);
    attempt("add_weighted_rows_i8", table.floats.add_weighted_rows_i8);
    attempt("widen_f16", table.floats.widen_f16);
    attempt("widen_bf16", table.floats.widen_bf16);
    attempt("narrow_f16", table.floats.narrow_f16);
    attempt("multiply_high", table.head.multiply_high);
    attempt("multiply_eight", table.head.multiply_eight);
    attempt("multiply_six", table.head.multiply_six);
    attempt("scale_products", table.head.scale_products);
    attempt("block_maxima", table.head.block_maxima);
    attempt("sum_of_exponentials", table.head.sum_of_exponentials);
    attempt("read_plain", table.probes.read_plain);
    attempt("read_prefetched", table.probes.read_prefetched);
    attempt("read_streams", table.probes.read_streams);
}

int run() {
    KernelTable reference{};
    reference::install(reference);
    KernelTable table = reference;
    std::size_t operations = 0;
    bool right = true;
    for_each_operation(table, [&](const std::string& broken, auto& kernel) {
        const auto sound = kernel;
        disable(kernel);
        operations += 1;
        for (const SelfTestResult& result : self_test(table, reference)) {
            if (result.passed == (result.operation != broken)) continue;
            std::printf("with a broken %s, %s %s\n", broken.c_str(), result.operation.c_str(),
                        result.passed ? "passed" : "failed");
            right = false;
        }
        kernel = sound;
    });
    if (operations != self_test(table, reference).size()) {
        std::printf("%zu operations were broken, the self-test knows %zu\n", operations,
                    self_test(table, reference).size());
        right = false;
    }
    if (right) std::printf("ok\n");
    return right ? 0 : 1;
}

}  // namespace
}  // namespace tercet

int main() { return tercet::run(); }
