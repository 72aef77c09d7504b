// Runs a ThreadPool hard and says "ok", or what went wrong. tests/kernels/test_native_programs.py compiles and runs it;
// by hand it is worth building with -fsanitize=thread.
#include "tercet/thread_pool.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>

namespace {

void require(bool condition, const char* what) {
    if (condition) return;
    std::printf("%s\n", what);
    std::exit(1);
}

// Every run calls the task once on each thread, and what it wrote is visible to the caller and to the next run.
void test_runs(int num_threads, int runs) {
    tercet::ThreadPool pool(num_threads);
    std::vector<long> counts(static_cast<std::size_t>(num_threads) * 16);  // plain memory, apart by cache lines
    for (int run = 0; run < runs; ++run) {
        pool.run([&](int index, int count) {
            require(count == num_threads, "a task was told another number of threads");
            require(counts[static_cast<std::size_t>(index) * 16] == run, "a thread missed a run, or ran twice");
            counts[static_cast<std::size_t>(index) * 16] += 1;
        });
    }
    for (int index = 0; index < num_threads; ++index)
        require(counts[static_cast<std::size_t>(index) * 16] == runs, "the caller does not see what a thread wrote");
}

// Workers sleep after a while without work; they must wake up.
void test_sleep(int num_threads) {
    tercet::ThreadPool pool(num_threads);
    for (int run = 0; run < 5; ++run) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        std::atomic<int> calls{0};
        pool.run([&](int, int) { calls.fetch_add(1); });
        require(calls.load() == num_threads, "a sleeping thread did not wake up");
    }
}

// Between two barriers, every thread sees what all the others wrote before the first one.
void test_barrier(int num_threads, int rounds) {
    tercet::ThreadPool pool(num_threads);
    std::vector<int> values(static_cast<std::size_t>(num_threads));
    for (int run = 0; run < 3; ++run) {
        pool.run([&](int index, int count) {
            for (int round = 0; round < rounds; ++round) {
                values[static_cast<std::size_t>(index)] = round;
                pool.barrier();
                for (int other = 0; other < count; ++other)
                    require(values[static_cast<std::size_t>(other)] == round, "a thread passed the barrier too early");
                pool.barrier();
            }
        });
    }
}

// Two callers at once take turns.
void test_callers(int num_threads, int runs) {
    tercet::ThreadPool pool(num_threads);
    long total = 0;  // plain memory: only turns keep it right
    const auto call = [&] {
        for (int run = 0; run < runs; ++run)
            pool.run([&](int index, int) {
                if (index == 0) total += 1;
            });
    };
    std::thread other(call);
    call();
    other.join();
    require(total == 2L * runs, "two callers ran at the same time");
}

void test_shares() {
    for (std::size_t count : {0, 1, 7, 64, 1000}) {
        for (int num_threads = 1; num_threads <= 9; ++num_threads) {
            std::size_t next = 0;
            for (int index = 0; index < num_threads; ++index) {
                const tercet::Share share = tercet::share_of(count, index, num_threads);
                require(share.begin == next && share.end >= share.begin, "shares are not contiguous");
                require(share.end - share.begin <= count / static_cast<std::size_t>(num_threads) + 1,
                        "a share is too big");
                next = share.end;
            }
            require(next == count, "shares do not cover everything");
        }
    }
}

}  // namespace

int main() {
    test_shares();
    for (const int num_threads : {1, 2, 3, 8}) {  // 8 is more than small machines have: waiting threads must give way
        test_runs(num_threads, 3000);
        test_sleep(num_threads);
        test_barrier(num_threads, 300);
        test_callers(num_threads, 1000);
    }
    for (int i = 0; i < 100; ++i) tercet::ThreadPool unused(3);
    std::printf("ok\n");
}
