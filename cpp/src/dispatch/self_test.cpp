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

std::vector<SelfTestResult> self_test(const KernelTable& table, const KernelTable& reference) {
    std::vector<SelfTestResult> results;
    test_ternary_kernels(table.ternary, reference.ternary, results);
    test_float_kernels(table.floats, reference.floats, results);
    test_memory_readers(table.probes, reference.probes, results);
    return results;
}

}  // namespace tercet
