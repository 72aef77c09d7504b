// Scratch memory for kernels: 64-byte aligned, zero when new, kept between steps so that a hot path allocates nothing.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>

namespace tercet {

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
        const std::size_t bytes = (size * sizeof(T) + alignment - 1) / alignment * alignment;
        elements_.reset(static_cast<T*>(::operator new(bytes, std::align_val_t{alignment})));
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
        void operator()(T* memory) const noexcept { ::operator delete(memory, std::align_val_t{alignment}); }
    };
    std::unique_ptr<T, Release> elements_;
    std::size_t size_ = 0;
};

}  // namespace tercet
