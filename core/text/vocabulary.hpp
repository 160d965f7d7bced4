#pragma once

#include "core/base/error.hpp"
#include "core/base/ids.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace moira {

/// The tokens of a model by id and by spelling. Filled once, then immutable. Ids may have gaps: memory follows the
/// number of tokens, never the largest id that a file claims.
class vocabulary {
public:
    static constexpr token_id id_max = (1 << 24) - 1; ///< far above any published vocabulary (about 262 thousand)

    struct entry {
        token_id id = 0;
        bool special = false;
        std::string text;  ///< as the file spells it
        std::string bytes; ///< what it stands for
    };

    vocabulary() = default;
    vocabulary(vocabulary&&) noexcept = default;
    vocabulary& operator=(vocabulary&&) noexcept = default;

    /// Takes all tokens. Errors: corrupt_file when an id or a spelling occurs twice or an id is out of range.
    static result<vocabulary> build(std::vector<entry> entries);

    const entry* find(token_id id) const noexcept;
    std::optional<token_id> id_of(std::string_view text) const;
    std::size_t size() const noexcept; ///< largest id + 1

private:
    std::vector<entry> entries_;                             // by id
    std::unordered_map<std::string_view, token_id> by_text_; // views into entries_
};

} // namespace moira
