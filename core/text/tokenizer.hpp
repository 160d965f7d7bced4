#pragma once

#include "core/base/error.hpp"
#include "core/base/ids.hpp"

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

/// What bounds the work that a hostile text or tokenizer file can cause.
struct tokenizer_limits {
    std::size_t text_bytes_max = std::size_t{16} << 20;  ///< a prompt of 16 MiB is far beyond any context window
    std::size_t file_bytes_max = std::size_t{128} << 20; ///< the largest published tokenizer.json is about 35 MB
};

/// Text to token ids and back, as a model's tokenizer.json says. Immutable after loading: any number of threads may use
/// one instance.
class tokenizer {
public:
    /// Reads `folder`/tokenizer.json (Hugging Face `tokenizers` format: byte-level BPE). Errors: not_found, io_error,
    /// corrupt_file (with the JSON path of what is wrong), unsupported (a component this build does not know, named).
    static result<tokenizer> load(const std::filesystem::path& folder, const tokenizer_limits& limits = {});

    /// The same from memory; `name` stands in error messages.
    static result<tokenizer> parse(std::string_view json, std::string_view name, const tokenizer_limits& limits = {});

    tokenizer(tokenizer&&) noexcept;
    tokenizer& operator=(tokenizer&&) noexcept;
    ~tokenizer();

    enum class special { add, skip };

    /// `special::add` applies the post-processor (the model's BOS). Special tokens written out in the text are
    /// recognised in both cases. Errors: invalid_utf8, prompt_too_long (text_bytes_max).
    result<std::vector<token_id>> encode(std::string_view text, special mode = special::add) const;

    /// Bytes of one token: not necessarily complete UTF-8. Special tokens yield their text when `with_special`.
    /// Ids outside the vocabulary yield nothing.
    std::string_view token_bytes(token_id id, bool with_special = false) const;

    /// Concatenated bytes with invalid UTF-8 replaced by U+FFFD, as the reference decoder does. Skips special tokens
    /// unless `with_special`.
    std::string decode(const std::vector<token_id>& ids, bool with_special = false) const;

    std::size_t vocabulary_size() const noexcept; ///< largest id + 1
    std::optional<token_id> id_of(std::string_view token) const;
    bool is_special(token_id id) const noexcept;

private:
    struct impl;
    explicit tokenizer(std::unique_ptr<const impl> parts);
    std::unique_ptr<const impl> impl_;
};

} // namespace moira
