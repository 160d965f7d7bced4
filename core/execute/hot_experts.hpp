#pragma once

#include "core/base/error.hpp"
#include "core/base/log.hpp"
#include "core/execute/engine.hpp"

#include <filesystem>
#include <string>

namespace moira {

/// The file of experts.profile: read at the start to warm an engine's cache in the background, written at the end.
/// Borrows the engine.
class hot_experts {
public:
    /// Never fails: a file that is damaged or of another model is left alone, which `log` (may be empty) hears; one
    /// that is not there yet will be written.
    hot_experts(std::filesystem::path path, engine& model, log_function log);

    /// Saves; `log` hears of a failure.
    ~hot_experts();
    hot_experts(const hot_experts&) = delete;
    hot_experts& operator=(const hot_experts&) = delete;

    /// Writes what was used since the profile was begun; recent use weighs more. Nothing where the file is not ours or
    /// nothing was used. Errors: io_error.
    result<void> save() const;

private:
    result<void> warm_up() const;

    std::filesystem::path path_;
    engine& model_;
    log_function log_;
    bool ours_ = false;
};

/// What tells the models of profiles apart: the architecture and its sizes.
std::string profile_identity(const model_shape& shape);

} // namespace moira
