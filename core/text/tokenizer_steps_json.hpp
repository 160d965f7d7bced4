#pragma once

#include "core/text/json_reading.hpp"
#include "core/text/tokenizer_json.hpp"

namespace moira {

/// The components of a tokenizer.json around the model. Each reads its member of the file (null when absent). Errors:
/// corrupt_file with the JSON path, unsupported with the component's name.

result<void> check_normalizer(const json_place& place);
result<void> read_pre_tokenizer(const json_place& place, pre_tokenizer& cutter);
result<void> check_decoder(const json_place& place);

/// Needs `parts.tokens`; fills `prefix` and `suffix`.
result<void> read_post_processor(const json_place& place, tokenizer_parts& parts);

} // namespace moira
