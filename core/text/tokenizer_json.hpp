#pragma once

#include "core/base/error.hpp"
#include "core/text/added_tokens.hpp"
#include "core/text/byte_pair_encoder.hpp"
#include "core/text/pre_tokenizer.hpp"
#include "core/text/vocabulary.hpp"

#include <string_view>
#include <vector>

namespace moira {

/// What a tokenizer.json says, ready to run.
struct tokenizer_parts {
    vocabulary tokens;
    added_token_matcher added;
    pre_tokenizer cutter;
    byte_pair_encoder encoder;
    bool ignore_merges = false;   ///< a piece that is a token as a whole is not taken apart
    std::vector<token_id> prefix; ///< what the post-processor puts in front
    std::vector<token_id> suffix; ///< and behind
};

/// Reads the Hugging Face `tokenizers` format. `name` stands in messages. Errors: corrupt_file with the JSON path,
/// unsupported with the name of the component.
result<tokenizer_parts> read_tokenizer_json(std::string_view json, std::string_view name);

} // namespace moira
