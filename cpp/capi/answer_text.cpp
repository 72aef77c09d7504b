#include "capi/answer_text.hpp"

#include <algorithm>

namespace tercet::capi {

std::string AnswerText::push(std::int32_t token, bool may_stop) {
    if (tokenizer_ == nullptr || tokenizer_->is_control(token)) return {};
    const std::string text = stream_.push(tokenizer_->bytes(token));
    return may_stop ? push_text(text) : text;
}

std::string AnswerText::finish() {
    std::string text = push_text(stream_.finish());
    if (!has_stopped_) text += held_;
    return text;
}

std::string AnswerText::push_text(const std::string& piece) {
    if (has_stopped_ || piece.empty()) return {};
    const std::string text = held_ + piece;
    std::size_t first = text.npos;  // of the earliest stop text
    for (const std::string& stop : stop_) first = std::min(first, text.find(stop));
    has_stopped_ = first != text.npos;
    if (has_stopped_) return text.substr(0, first);
    std::size_t unsettled = 0;  // the longest ending that could become a stop text
    for (const std::string& stop : stop_)
        for (std::size_t length = std::min(stop.size() - 1, text.size()); length > unsettled; --length)
            if (text.ends_with(std::string_view(stop).substr(0, length))) unsettled = length;
    held_ = text.substr(text.size() - unsettled);
    return text.substr(0, text.size() - unsettled);
}

}  // namespace tercet::capi
