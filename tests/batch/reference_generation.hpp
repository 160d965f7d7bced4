#pragma once

#include "core/batch/batcher.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace moira::test {

// A vocabulary of 24: token 0 ends the text, tokens 1 and 2 are halves of a character, the rest are short words.
constexpr std::int32_t fake_vocabulary = 24;
constexpr token_id fake_eos = 0;
std::string_view fake_bytes(token_id token);

struct reference_result {
    finish_reason reason = finish_reason::length;
    std::vector<token_id> token_ids;
    std::string text;
    std::string logits_hash;
};

/// What a request must give by definition: one token after the other, no cache, no batch, text found in the whole.
reference_result generate_alone(const generation_request& request, std::int64_t context_max);

} // namespace moira::test
