// Float operations have one order of additions and no fused multiply-add, so instruction sets must agree in every bit.
// Sizes lie on both sides of the 16 lanes and of the blocks that the kernels unroll.
#include <bit>
#include <cstring>

#include "dispatch/random_values.hpp"
#include "dispatch/self_test.hpp"

namespace tercet {
namespace {

constexpr std::size_t num_rows = 5, num_vectors = 3;

using Reals = std::vector<float>;

// What an operation computes for all sizes, one after the other; `compute(kernels, random, size)` returns its outputs.
template <class Compute>
Reals outputs(std::span<const std::size_t> sizes, const FloatKernels& kernels, Compute compute) {
    Reals all;
    for (const std::size_t size : sizes) {
        RandomValues random(size);
        const Reals some = compute(kernels, random, size);
        all.insert(all.end(), some.begin(), some.end());
    }
    return all;
}

// Halves of either kind hold arbitrary finite numbers: a sign, a middling exponent, any fraction.
template <class Half>
std::vector<Half> halves(RandomValues& random, std::size_t size) {
    std::vector<Half> values(size);
    for (Half& value : values) {
        const auto high = static_cast<unsigned>(random.byte() & 0xBF), low = static_cast<unsigned>(random.byte());
        value.bits = static_cast<std::uint16_t>(high << 8 | low);
    }
    return values;
}

std::vector<std::int8_t> codes(RandomValues& random, std::size_t size) {
    std::vector<std::int8_t> values(size);
    for (std::int8_t& value : values) value = static_cast<std::int8_t>(random.byte());
    return values;
}

template <class Row, class DotRows>
Reals dot_rows(DotRows kernel, const std::vector<Row>& rows, RandomValues& random, std::size_t depth) {
    const Reals vectors = random.reals(num_vectors * depth);
    Reals out(num_vectors * num_rows);
    kernel(rows.data(), num_rows, depth, vectors.data(), depth, num_vectors, out.data(), num_rows, nullptr);
    return out;
}

template <class Row, class AddRows>
Reals add_weighted_rows(AddRows kernel, const std::vector<Row>& rows, RandomValues& random, std::size_t depth) {
    const Reals weights = random.reals(num_vectors * num_rows);
    Reals out = random.reals(num_vectors * depth);
    kernel(rows.data(), num_rows, depth, weights.data(), num_rows, num_vectors, out.data(), nullptr);
    return out;
}

}  // namespace

void test_float_kernels(const SelfTestShapes& shapes, const FloatKernels& kernels, const FloatKernels& reference,
                        std::vector<SelfTestResult>& results) {
    const auto test = [&](const char* operation, auto compute) {
        const Reals expected = outputs(shapes.sizes, reference, compute),
                    got = outputs(shapes.sizes, kernels, compute);
        std::size_t index = 0;
        while (index < got.size() && std::memcmp(&got[index], &expected[index], sizeof(float)) == 0) ++index;
        if (index == got.size())
            results.push_back({operation, true, ""});
        else
            results.push_back({operation, false,
                               "output " + std::to_string(index) + " is " + std::to_string(got[index]) +
                                   " instead of " + std::to_string(expected[index])});
    };
    using K = const FloatKernels&;
    using R = RandomValues&;

    test("quantize", [](K k, R random, std::size_t size) {
        const Reals x = random.reals(size);
        std::vector<std::int8_t> codes(size + 17, 1);
        std::int32_t sum = 0;
        Reals out = {k.quantize(x.data(), size, codes.size(), codes.data(), &sum), static_cast<float>(sum)};
        out.insert(out.end(), codes.begin(), codes.end());
        return out;
    });
    test("rms_norm", [](K k, R random, std::size_t size) {
        const Reals x = random.reals(size), weight = random.reals(size);
        Reals out(size);
        k.rms_norm(x.data(), weight.data(), size, 1e-5f, out.data());
        return out;
    });
    const auto test_gate = [&](const char* operation, auto gated) {
        test(operation, [gated](K k, R random, std::size_t size) {
            const Reals gate = random.reals(size), up = random.reals(size);
            Reals out(size);
            (k.*gated)(gate.data(), up.data(), size, out.data());
            return out;
        });
    };
    test_gate("gated_relu2", &FloatKernels::gated_relu2);
    test_gate("gated_silu", &FloatKernels::gated_silu);
    test_gate("gated_gelu_tanh", &FloatKernels::gated_gelu_tanh);
    const auto test_rescale = [&](const char* operation, auto rescale) {
        test(operation, [rescale](K k, R random, std::size_t size) {
            std::vector<std::int32_t> sums(size);
            for (std::int32_t& sum : sums) sum = random.byte() * 65536 + random.byte() - (1 << 23);
            const Reals scales = random.reals(size);
            Reals out = random.reals(size);
            (k.*rescale)(sums.data(), 0.37f, scales.data(), size % 2, size, out.data());
            return out;
        });
    };
    test_rescale("rescale", &FloatKernels::rescale);
    test_rescale("rescale_add", &FloatKernels::rescale_add);
    test("rotate", [](K k, R random, std::size_t half) {
        Reals head = random.reals(2 * half);
        const Reals cosines = random.reals(half), sines = random.reals(half);
        k.rotate(head.data(), cosines.data(), sines.data(), half, 0.3f);
        return head;
    });
    test("hadamard", [](K k, R random, std::size_t size) {
        Reals values = random.reals(std::bit_floor(size));
        k.hadamard(values.data(), values.size());
        return values;
    });
    test("softmax", [](K k, R random, std::size_t size) {
        Reals scores = random.reals(size);
        for (float& score : scores) score *= 8;
        k.softmax(scores.data(), size);
        return scores;
    });
    test("merge_softmax", [](K k, R random, std::size_t size) {
        SoftmaxSums sums = {random.reals(1)[0] * 8, 3.7f};
        const SoftmaxSums other_sums = {random.reals(1)[0] * 8, 2.1f};
        const Reals other = random.reals(size);
        Reals out = random.reals(size);
        k.merge_softmax(&sums, out.data(), other_sums, other.data(), size);
        out.push_back(sums.greatest);
        out.push_back(sums.sum);
        return out;
    });
    test("dot_rows_f32", [](K k, R random, std::size_t depth) {
        const Reals rows = random.reals(num_rows * depth);
        return dot_rows(k.dot_rows_f32, rows, random, depth);
    });
    test("dot_rows_f16", [](K k, R random, std::size_t depth) {
        return dot_rows(k.dot_rows_f16, halves<float16>(random, num_rows * depth), random, depth);
    });
    test("dot_rows_bf16", [](K k, R random, std::size_t depth) {
        return dot_rows(k.dot_rows_bf16, halves<bfloat16>(random, num_rows * depth), random, depth);
    });
    test("dot_rows_i8", [](K k, R random, std::size_t depth) {
        return dot_rows(k.dot_rows_i8, codes(random, num_rows * depth), random, depth);
    });
    test("add_weighted_rows_f32", [](K k, R random, std::size_t depth) {
        const Reals rows = random.reals(num_rows * depth);
        return add_weighted_rows(k.add_weighted_rows_f32, rows, random, depth);
    });
    test("add_weighted_rows_f16", [](K k, R random, std::size_t depth) {
        return add_weighted_rows(k.add_weighted_rows_f16, halves<float16>(random, num_rows * depth), random, depth);
    });
    test("add_weighted_rows_i8", [](K k, R random, std::size_t depth) {
        return add_weighted_rows(k.add_weighted_rows_i8, codes(random, num_rows * depth), random, depth);
    });
    const auto test_widen = [&]<class Half>(const char* operation,
                                            void (*FloatKernels::*widen)(const Half*, std::size_t, float*) noexcept) {
        test(operation, [widen](K k, R random, std::size_t size) {
            const std::vector<Half> from = halves<Half>(random, size);
            Reals to(size);
            (k.*widen)(from.data(), size, to.data());
            return to;
        });
    };
    test_widen("widen_f16", &FloatKernels::widen_f16);
    test_widen("widen_bf16", &FloatKernels::widen_bf16);
    test("narrow_f16", [](K k, R random, std::size_t size) {
        const Reals from = random.reals(size);
        std::vector<float16> to(size);
        k.narrow_f16(from.data(), size, to.data());
        Reals bits;
        for (const float16 half : to) bits.push_back(static_cast<float>(half.bits));
        return bits;
    });
}

}  // namespace tercet
