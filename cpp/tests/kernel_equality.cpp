// Every kernel of every instruction set that is available here against the reference, over very many shapes.
//
// The comparisons are the self-test's own (dispatch/self_test.hpp): any bytes as weights, the most extreme activations,
// equal to the last bit. Their operands lie in memory of exactly their size: built with the address sanitizer, this program
// finds whoever reads beyond. What is printed: the instruction sets, and at the end the one that would be chosen.
//
//     kernel_equality [ROUNDS]        a round has every depth up to 300 and some random ones; 0 is a short one; default 1
#include <cstdio>
#include <cstdlib>

#include "dispatch/random_values.hpp"
#include "dispatch/self_test.hpp"

namespace tercet {

namespace {

// A short round takes every seventh size and few large ones.
struct Round {
    std::size_t number, step, larger;
};

// Every depth, beside rows and tokens that go through their own cycles, now and then many tokens; then some larger ones,
// other ones each round.
std::vector<SelfTestShapes::Product> products_of(const Round& round) {
    std::vector<SelfTestShapes::Product> products;
    for (std::size_t depth = 1; depth <= 300; depth += round.step) {
        const std::size_t at = depth / round.step + round.number;
        if (at % 8 == 0)
            products.push_back({1, depth, 7 + depth % 34});
        else
            products.push_back({1 + at % 5, depth, 1 + at % 3});
    }
    RandomValues random(round.number);
    for (std::size_t i = 0; i < round.larger; ++i)
        products.push_back({1u + random.byte() % 3u, 300u + random.byte() * 4u + random.byte(), 1u + random.byte() % 5u});
    return products;
}

std::vector<std::size_t> sizes_of(const Round& round) {
    std::vector<std::size_t> sizes;
    for (std::size_t size = 1; size <= 300; size += round.step) sizes.push_back(size);
    RandomValues random(round.number);
    for (std::size_t i = 0; i < round.larger; ++i) sizes.push_back(300u + random.byte() * 16u + random.byte());
    return sizes;
}

int run(std::size_t num_rounds) {
    int failures = 0;
    std::vector<Round> rounds;
    for (std::size_t number = 0; number < num_rounds; ++number) rounds.push_back({number, 1, 12});
    if (rounds.empty()) rounds.push_back({0, 7, 2});
    const KernelTable reference = assemble_kernels(Isa::reference);
    for (const Isa isa : available_isas()) {
        const KernelTable table = assemble_kernels(isa);
        for (const Round& round : rounds) {
            const std::vector<SelfTestShapes::Product> products = products_of(round);
            const std::vector<std::size_t> sizes = sizes_of(round);
            for (const SelfTestResult& result : self_test(table, reference, {products, sizes})) {
                if (result.passed) continue;
                std::printf("%s %s: %s\n", isa_name(isa), result.operation.c_str(), result.detail.c_str());
                failures += 1;
            }
        }
        std::printf("%s\n", isa_name(isa));
        std::fflush(stdout);
    }
    std::printf("chosen: %s\n", isa_name(choose_isa("").isa));
    return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace tercet

int main(int count, char** arguments) {
    return tercet::run(count > 1 ? static_cast<std::size_t>(std::atol(arguments[1])) : 1);
}
