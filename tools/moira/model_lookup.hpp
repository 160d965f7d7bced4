#pragma once

#include "config/settings.hpp"
#include "core/base/error.hpp"
#include "core/text/tokenizer.hpp"

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace moira {

/// Without -m this model runs; it is bundled.
inline constexpr std::string_view default_model_name = "moira-demo";

/// A model on this machine.
struct found_model {
    std::string name;
    std::filesystem::path folder;
    std::string place; ///< "path", "model.path", "bundled" or "hugging face cache"
};

/// Where models are looked up, in this order.
struct model_places {
    std::vector<std::filesystem::path> own;     ///< model.path
    std::vector<std::filesystem::path> bundled; ///< beside the executable, or in the source tree it was built from
    std::filesystem::path hugging_face_hub;     ///< empty: none
};

/// The places for this process: model.path, the executable's own folder, HF_HUB_CACHE, HF_HOME or ~/.cache/huggingface.
model_places places_of_models(const settings& all);

/// `wanted`: a folder, or a name ("moira-demo", "org/name" of the cache); empty: the default model. A folder needs
/// config.json or tokenizer.json. Errors: not_found (with near names), unsupported (.gguf).
result<found_model> find_model(std::string_view wanted, const model_places& places);

/// The tokenizer of find_model(wanted): needs no weights. Errors: those of find_model and tokenizer::load.
result<tokenizer> find_tokenizer(std::string_view wanted, const settings& all);

/// All models of all places; the first of a name hides later ones, as in find_model. Sorted by place, then name.
std::vector<found_model> list_models(const model_places& places);

} // namespace moira
