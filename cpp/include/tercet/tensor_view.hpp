// Borrowed rows of numbers: a pointer, a shape, and the distance between rows. Owns nothing, checks nothing.
#pragma once

#include <cstddef>
#include <span>

namespace tercet {

template <class T>
struct MatrixView {
    T* data = nullptr;
    std::size_t rows = 0;
    std::size_t columns = 0;
    std::size_t stride = 0;  // elements from one row to the next, >= columns

    std::span<T> row(std::size_t index) const noexcept { return {data + index * stride, columns}; }
    T& operator()(std::size_t row, std::size_t column) const noexcept { return data[row * stride + column]; }

    MatrixView first_rows(std::size_t count) const noexcept { return {data, count, columns, stride}; }
    operator MatrixView<const T>() const noexcept { return {data, rows, columns, stride}; }
};

}  // namespace tercet
