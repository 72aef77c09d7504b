#include "dispatch/self_test.hpp"

#include "dispatch/random_values.hpp"

namespace tercet {

void test_memory_readers(const ProbeKernels& kernels, const ProbeKernels& reference,
                         std::vector<SelfTestResult>& results) {
    std::vector<std::uint8_t> bytes(2 * 4096);
    RandomValues random(1);
    for (std::uint8_t& byte : bytes) byte = random.byte();
    const std::uint64_t expected = reference.read_plain(bytes.data(), bytes.size());
    const auto test = [&](const char* operation, auto reader) {
        const bool passed = reader(bytes.data(), bytes.size()) == expected;
        results.push_back({operation, passed, passed ? "" : "8,192 bytes have another parity"});
    };
    test("read_plain", kernels.read_plain);
    test("read_prefetched", kernels.read_prefetched);
    test("read_streams", kernels.read_streams);
}

SelfTestShapes start_up_shapes() noexcept {
    static constexpr SelfTestShapes::Product products[] = {{1, 1, 1},   {3, 80, 1}, {5, 37, 2}, {2, 130, 5},
                                                           {3, 64, 14}, {1, 600, 9}, {2, 77, 3}, {1, 90, 35}};
    static constexpr std::size_t sizes[] = {1, 16, 47, 130};  // on both sides of 16 lanes and of unrolled blocks
    return {products, sizes};
}

std::vector<SelfTestResult> self_test(const KernelTable& table, const KernelTable& reference,
                                      const SelfTestShapes& shapes) {
    std::vector<SelfTestResult> results;
    test_ternary_kernels(shapes, table.ternary, reference.ternary, results);
    test_float_kernels(shapes, table.floats, reference.floats, results);
    test_head_kernels(shapes, table.head, reference.head, results);
    test_memory_readers(table.probes, reference.probes, results);
    return results;
}

}  // namespace tercet
