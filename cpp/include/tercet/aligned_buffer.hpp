// Scratch memory for kernels: 64-byte aligned, zero when new, kept between steps so that a hot path allocates nothing.
//
// A large piece begins at a multiple of 2 MiB and asks for pages of that size: a core that streams through pages of 4 KiB
// reads a third less (docs/lab_log.md).
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace tercet {

inline constexpr std::size_t huge_page_bytes = std::size_t{2} << 20;

// Asks for huge pages; whether there are any does not matter to the contents.
inline void prefer_huge_pages([[maybe_unused]] void* memory, [[maybe_unused]] std::size_t bytes) noexcept {
#if defined(__linux__)
    madvise(memory, bytes, MADV_HUGEPAGE);
#endif
}

template <class T>
class AlignedBuffer {
    static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

  public:
    static constexpr std::size_t alignment = 64;

    AlignedBuffer() = default;
    explicit AlignedBuffer(std::size_t size) { reserve(size); }

    // Room for at least `size` elements. Contents survive only if there was room already; new memory is zero.
    void reserve(std::size_t size) {
        if (size <= size_) return;
        elements_.reset();
        size_ = 0;
        std::size_t bytes = (size * sizeof(T) + alignment - 1) / alignment * alignment;
        const bool huge = bytes >= 2 * huge_page_bytes;
        if (huge) bytes = (bytes + huge_page_bytes - 1) / huge_page_bytes * huge_page_bytes;
        const auto aligned = std::align_val_t{huge ? huge_page_bytes : alignment};
        elements_ = {static_cast<T*>(::operator new(bytes, aligned)), Release{aligned}};
        if (huge) prefer_huge_pages(elements_.get(), bytes);
        std::memset(static_cast<void*>(elements_.get()), 0, bytes);
        size_ = size;
    }

    T* data() noexcept { return elements_.get(); }
    const T* data() const noexcept { return elements_.get(); }
    std::size_t size() const noexcept { return size_; }
    T& operator[](std::size_t index) noexcept { return elements_.get()[index]; }
    const T& operator[](std::size_t index) const noexcept { return elements_.get()[index]; }

  private:
    struct Release {
        std::align_val_t aligned{alignment};
        void operator()(T* memory) const noexcept { ::operator delete(memory, aligned); }
    };
    std::unique_ptr<T, Release> elements_;
    std::size_t size_ = 0;
};

}  // namespace tercet
