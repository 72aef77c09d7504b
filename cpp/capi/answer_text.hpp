// The text of an answer while it grows: src/tercet/engine/text_output.py has the rules.
//
// A token may end in the middle of a character, and the text may end in what could become a stop text, which must not be
// shown: both wait until what follows settles it.
#pragma once

#include <string>
#include <vector>

#include "tokenization/tokenizer.hpp"

namespace tercet::capi {

class AnswerText {
  public:
    // Without a tokenizer all texts are empty.
    AnswerText(const Tokenizer* tokenizer, std::vector<std::string> stop) : tokenizer_(tokenizer), stop_(std::move(stop)) {}

    // Text that may be shown now. Tokens that may not stop come before all others; no stop text is looked for in theirs.
    std::string push(std::int32_t token, bool may_stop);
    std::string finish();  // no more tokens come: what was held back
    bool has_stopped() const noexcept { return has_stopped_; }

  private:
    std::string push_text(const std::string& text);

    const Tokenizer* tokenizer_;
    std::vector<std::string> stop_;
    Utf8Stream stream_;
    std::string held_;
    bool has_stopped_ = false;
};

}  // namespace tercet::capi
