#pragma once

#include "core/base/error.hpp"

#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

struct chat_message {
    std::string role;
    std::string content;
};

/// A model's chat template: the part of the Jinja language that templates use, interpreted with bounded work.
/// Immutable after parsing; any number of threads may render.
class chat_template {
public:
    struct limits {
        std::size_t template_bytes_max = std::size_t{1} << 20;
        std::size_t output_bytes_max = std::size_t{16} << 20;
        std::size_t steps_max = 1'000'000; ///< statements and expressions evaluated by one rendering
        std::size_t depth_max = 64;        ///< nesting of blocks and expressions
    };

    /// Reads `chat_template`, `bos_token` and `eos_token` from `folder`/tokenizer_config.json (or chat_template.jinja
    /// beside it). Errors: not_found (a model without a template), corrupt_file, unsupported (names the construct,
    /// line).
    static result<chat_template> load(const std::filesystem::path& folder);
    static result<chat_template> parse(std::string_view source, const limits& bounds);
    static result<chat_template> parse(std::string_view source) { return parse(source, limits{}); }

    chat_template(chat_template&&) noexcept;
    chat_template& operator=(chat_template&&) noexcept;
    ~chat_template();

    /// The prompt for a conversation. Errors: invalid_argument with the template's own words where it raises.
    result<std::string> render(const std::vector<chat_message>& messages, bool add_generation_prompt = true) const;

    /// Renders with any variables. Errors: invalid_argument.
    result<std::string> render(const nlohmann::ordered_json& variables) const;

private:
    struct impl;
    explicit chat_template(std::unique_ptr<impl> parts);
    std::unique_ptr<impl> impl_;
};

} // namespace moira
