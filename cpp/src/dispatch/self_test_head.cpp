// Products with planes of any bytes and any int8, in shapes around the chunk and the blocks of rows and vectors; rows one
// after the other and from a list.
#include <algorithm>
#include <cstring>
#include <limits>

#include "dispatch/random_values.hpp"
#include "dispatch/self_test.hpp"

namespace tercet {
namespace {

using Multiply = void (*)(const PlaneMatmul&) noexcept;

struct Shape {
    std::size_t rows, chunks, vectors;
};

SelfTestResult test_multiply(std::span<const SelfTestShapes::Product> products, const char* operation, Multiply kernel,
                             Multiply reference) {
    if (kernel == reference) return {operation, true, ""};
    for (const SelfTestShapes::Product& product : products) {
        const Shape shape{3 * product.row_tiles - 2, (product.depth + plane_chunk_columns - 1) / plane_chunk_columns,
                          product.tokens};
        RandomValues random(shape.rows);
        std::vector<std::uint8_t> high(shape.rows * shape.chunks * four_bit_chunk_bytes), low(high.size());
        std::generate(high.begin(), high.end(), [&] { return random.byte(); });
        std::generate(low.begin(), low.end(), [&] { return random.byte(); });
        const std::size_t stride = shape.chunks * plane_chunk_columns + 64;
        std::vector<std::int8_t> vectors(shape.vectors * stride, -128);
        std::generate(vectors.begin() + static_cast<std::ptrdiff_t>(stride) / 2, vectors.end(),
                      [&] { return static_cast<std::int8_t>(random.byte()); });
        std::vector<std::uint32_t> list(shape.rows);
        for (std::size_t i = 0; i < list.size(); ++i) list[i] = static_cast<std::uint32_t>((3 * i + 1) % shape.rows);
        for (const std::uint32_t* rows : {static_cast<const std::uint32_t*>(nullptr), static_cast<const std::uint32_t*>(list.data())}) {
            std::vector<std::int32_t> expected(shape.vectors * (shape.rows + 1), 7), got(expected);
            PlaneMatmul task{high.data(),    low.data(), shape.chunks,  rows,            0,             shape.rows,
                             vectors.data(), stride,     shape.vectors, expected.data(), shape.rows + 1};
            reference(task);
            task.out = got.data();
            kernel(task);
            if (got != expected)
                return {operation, false,
                        std::to_string(shape.rows) + " rows of " + std::to_string(shape.chunks) + " chunks, " +
                            std::to_string(shape.vectors) + " vectors give other sums"};
        }
    }
    return {operation, true, ""};
}

SelfTestResult test_scaling(const HeadKernels& kernels, const HeadKernels& reference) {
    constexpr std::size_t count = 37;
    RandomValues random(count);
    std::vector<std::int32_t> coarse(count), fine(count);
    for (std::size_t i = 0; i < count; ++i) {
        coarse[i] = (random.byte() - 128) * 30'000;
        fine[i] = (random.byte() - 128) * 30'001;
    }
    const std::vector<float> row_scales = random.reals(count);
    std::vector<float> expected(count), got(count);
    PlaneScaling task{coarse.data(), fine.data(), count, 16.0, -1234.5, row_scales.data(), 0.37F, expected.data()};
    reference.scale_products(task);
    task.out = got.data();
    kernels.scale_products(task);
    const bool passed = std::memcmp(expected.data(), got.data(), count * sizeof(float)) == 0;
    return {"scale_products", passed, passed ? "" : "37 products have other bits"};
}

SelfTestResult test_block_maxima(const HeadKernels& kernels, const HeadKernels& reference) {
    constexpr std::size_t count = 5 * logit_block + 7, blocks = 6;
    RandomValues random(count);
    std::vector<float> logits = random.reals(count);
    logits[logit_block] = -std::numeric_limits<float>::infinity();
    logits[2 * logit_block + 3] = std::numeric_limits<float>::quiet_NaN();
    std::vector<float> expected(blocks), got(blocks);
    reference.block_maxima(logits.data(), count, expected.data());
    kernels.block_maxima(logits.data(), count, got.data());
    bool passed = true;
    for (std::size_t block = 0; block < blocks; ++block)
        passed = passed && (expected[block] == got[block] || (expected[block] != expected[block] && got[block] != got[block]));
    return {"block_maxima", passed, passed ? "" : "327 logits have other maxima"};
}

SelfTestResult test_sum_of_exponentials(const HeadKernels& kernels, const HeadKernels& reference) {
    constexpr std::size_t count = 327;
    RandomValues random(count);
    const std::vector<float> logits = random.reals(count);
    const double expected = reference.sum_of_exponentials(logits.data(), count, 4.0F, 1.7F);
    const bool passed = kernels.sum_of_exponentials(logits.data(), count, 4.0F, 1.7F) == expected;
    return {"sum_of_exponentials", passed, passed ? "" : "327 logits have another sum"};
}

}  // namespace

void test_head_kernels(const SelfTestShapes& shapes, const HeadKernels& kernels, const HeadKernels& reference,
                       std::vector<SelfTestResult>& results) {
    results.push_back(test_multiply(shapes.products, "multiply_high", kernels.multiply_high, reference.multiply_high));
    results.push_back(test_multiply(shapes.products, "multiply_eight", kernels.multiply_eight, reference.multiply_eight));
    results.push_back(test_multiply(shapes.products, "multiply_six", kernels.multiply_six, reference.multiply_six));
    results.push_back(test_scaling(kernels, reference));
    results.push_back(test_block_maxima(kernels, reference));
    results.push_back(test_sum_of_exponentials(kernels, reference));
}

}  // namespace tercet
