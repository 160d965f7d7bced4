#include "core/synthesize/model_folder.hpp"

#include "core/base/read_only_file.hpp"
#include "core/synthesize/synthetic_shape.hpp"

#include <fstream>
#include <unistd.h>

namespace moira {

namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t config_bytes_max = 1'000'000; // those made here have two kilobytes

tl::unexpected<error> cannot(const fs::path& path, const char* what, const std::error_code& reason) {
    return fail(errc::io_error, path.string() + " cannot be " + what + ": " + reason.message());
}

result<void> check_target(const fs::path& target, bool replace) {
    std::error_code reason;
    const auto status = fs::symlink_status(target, reason);
    if (!fs::exists(status))
        return {};
    if (!fs::is_directory(status))
        return fail(errc::invalid_argument, target.string() + " exists and is no folder: name another one");
    if (fs::is_empty(target, reason) && !reason)
        return {};
    if (!replace)
        return fail(errc::invalid_argument,
                    target.string() + " exists and is not empty: name another folder, or add --force to replace it");
    const auto config = read_text_file(target / "config.json", config_bytes_max);
    if (!config || !is_synthetic_config(*config))
        return fail(errc::invalid_argument, target.string() +
                                                " holds something that `moira synth` did not make: it is "
                                                "not replaced; remove it yourself, or name another folder");
    return {};
}

} // namespace

model_folder::model_folder(fs::path target, fs::path part) : target_(std::move(target)), part_(std::move(part)) {}

model_folder::model_folder(model_folder&& other) noexcept
    : target_(std::move(other.target_)), part_(std::exchange(other.part_, {})) {}

model_folder::~model_folder() {
    std::error_code ignored;
    if (!part_.empty())
        fs::remove_all(part_, ignored);
}

result<model_folder> model_folder::create(const fs::path& wanted, bool replace) {
    std::error_code reason;
    auto target = fs::absolute(wanted, reason).lexically_normal();
    if (reason || wanted.empty())
        return fail(errc::invalid_argument, "\"" + wanted.string() + "\" names no folder");
    if (!target.has_filename()) // "model/"
        target = target.parent_path();
    if (auto checked = check_target(target, replace); !checked)
        return tl::unexpected(checked.error());
    fs::create_directories(target.parent_path(), reason);
    if (reason)
        return cannot(target.parent_path(), "made", reason);
    // The process id keeps two writers of one target apart.
    model_folder folder(target, target.string() + ".part" + std::to_string(::getpid()));
    if (!fs::create_directory(folder.part_, reason))
        return cannot(std::exchange(folder.part_, {}), "made",
                      reason ? reason : std::make_error_code(std::errc::file_exists));
    return folder;
}

result<void> model_folder::require_space(std::uint64_t bytes) const {
    std::error_code reason;
    const auto space = fs::space(part_, reason);
    if (!reason && space.available < bytes)
        return fail(errc::io_error, "the disk of " + target_.string() + " has " + std::to_string(space.available) +
                                        " bytes free; the model needs " + std::to_string(bytes) +
                                        ": free some, choose fewer layers or another disk");
    return {};
}

result<void> model_folder::write_text(std::string_view name, std::string_view text) const {
    const auto path = part_ / name;
    std::ofstream file(path, std::ios::binary);
    file << text;
    if (!file.flush())
        return cannot(path, "written", std::error_code(errno, std::generic_category()));
    return {};
}

result<void> model_folder::publish() {
    std::error_code reason;
    const fs::path old = part_.string() + ".old";
    const bool exists = fs::exists(target_, reason);
    if (exists)
        fs::rename(target_, old, reason);
    if (!reason)
        fs::rename(part_, target_, reason);
    if (reason)
        return cannot(target_, "put in its place", reason);
    part_.clear();
    if (exists)
        fs::remove_all(old, reason);
    return {};
}

} // namespace moira
