#include "plugins/plugin_host.hpp"

#include "plugins/op_selection.hpp"
#include "plugins/plugin_file.hpp"

#include <algorithm>

namespace moira {
namespace {

/// Far more than there are kinds of processors; a folder with more is not a plugin folder.
constexpr std::size_t files_per_folder_max = 256;

/// The *.so files of a folder, sorted by name, so that every run finds the same plugins in the same order. Reports a
/// folder that cannot be read in `found`; false for it.
bool list_folder(const std::filesystem::path& folder, std::vector<std::filesystem::path>& files,
                 std::vector<found_plugin>& found) {
    std::error_code code;
    std::vector<std::filesystem::path> here;
    std::filesystem::directory_iterator entry(folder, code);
    for (const std::filesystem::directory_iterator end; !code && entry != end; entry.increment(code)) {
        std::error_code ignored;
        if (entry->path().extension() == ".so" && entry->is_regular_file(ignored))
            here.push_back(entry->path());
    }
    if (code || here.size() > files_per_folder_max) {
        const std::string why = code ? code.message() : "more than " + std::to_string(files_per_folder_max) + " files";
        found.push_back({folder, folder.filename().string(), {}, 0, false, "folder not read: " + why});
        return false;
    }
    std::sort(here.begin(), here.end());
    files.insert(files.end(), here.begin(), here.end());
    return true;
}

std::string join_reasons(const std::vector<found_plugin>& found) {
    std::string text;
    for (const found_plugin& each : found)
        text += "; " + each.name + " (" + each.file.string() + "): " + each.reason;
    return text.empty() ? "; the folders hold no *.so file" : text;
}

} // namespace

struct plugin_host::impl {
    impl(const options& wanted_options, compute_pool& pool) : wanted(wanted_options), services(pool, wanted_options.log) {}

    ~impl() {
        for (const op_provider& provider : providers)
            provider.api->device_close(provider.device);
    }

    impl(const impl&) = delete;
    impl& operator=(const impl&) = delete;

    options wanted;
    plugin_host_services services;
    std::vector<found_plugin> found;
    std::vector<op_provider> providers; // best score first

    /// Probes all files; gives the ones that may be opened, best first.
    std::vector<plugin_file> probe(const std::vector<std::filesystem::path>& files) {
        const moira_device_facts facts = read_device_facts();
        std::vector<plugin_file> usable;
        for (const auto& file : files) {
            plugin_file plugin = probe_plugin(file, facts);
            const bool taken = plugin.open && refuse_duplicate(plugin.found);
            if (plugin.open && !taken && plugin.found.score > 0 && is_wanted(plugin.found))
                usable.push_back(plugin);
            found.push_back(std::move(plugin.found));
        }
        std::stable_sort(usable.begin(), usable.end(),
                         [](const plugin_file& a, const plugin_file& b) { return a.found.score > b.found.score; });
        return usable;
    }

    bool refuse_duplicate(found_plugin& plugin) const {
        for (const found_plugin& earlier : found) {
            if (earlier.name == plugin.name && earlier.score > 0) {
                plugin.score = 0;
                plugin.reason = "a plugin of this name was found before, in " + earlier.file.string();
                return true;
            }
        }
        return false;
    }

    bool is_wanted(const found_plugin& plugin) const {
        const bool of_class = plugin.device_class == wanted.device_class ||
                              (!wanted.fallback_class.empty() && plugin.device_class == wanted.fallback_class);
        return of_class && (wanted.forced_plugin.empty() || plugin.name == wanted.forced_plugin);
    }

    /// Those of the class that is wanted, or else those of the other.
    void open_all(const std::vector<plugin_file>& usable) {
        for (const auto& device_class : {wanted.device_class, wanted.fallback_class}) {
            for (const plugin_file& plugin : usable)
                if (plugin.found.device_class == device_class)
                    open(plugin);
            if (!providers.empty())
                return;
        }
    }

    void open(const plugin_file& plugin) {
        const auto row = std::find_if(found.begin(), found.end(),
                                      [&](const found_plugin& each) { return each.file == plugin.found.file; });
        const auto api = open_plugin(plugin);
        if (!api) {
            row->reason = api.error().message;
            return;
        }
        moira_device* device = nullptr;
        const moira_status status = (*api)->device_open(&services.table(), wanted.device_index, &device);
        if (status != MOIRA_OK || !device) {
            row->reason = "its device did not open: " + status_text(status) + ": " + read_last_error(**api);
            return;
        }
        row->open = true;
        providers.push_back({plugin.found.name, plugin.found.device_class, *api, device});
    }

    std::string explain_nothing_open() const {
        std::string why = "no plugin can run here (device class \"" + wanted.device_class + "\"";
        if (!wanted.fallback_class.empty())
            why += " or \"" + wanted.fallback_class + "\"";
        if (!wanted.forced_plugin.empty())
            why += ", only \"" + wanted.forced_plugin + "\" is allowed by compute.plugin";
        return why + ")" + join_reasons(found);
    }
};

plugin_host::plugin_host(std::unique_ptr<impl> parts) : impl_(std::move(parts)) {}

plugin_host::~plugin_host() = default;

result<std::unique_ptr<plugin_host>> plugin_host::open(const options& wanted, compute_pool& pool) {
    auto parts = std::make_unique<impl>(wanted, pool);
    std::vector<std::filesystem::path> files;
    bool any_folder = false;
    for (const auto& folder : wanted.folders)
        any_folder |= list_folder(folder, files, parts->found);
    if (!any_folder)
        return fail(errc::not_found, "no plugin folder can be read" + join_reasons(parts->found));
    parts->open_all(parts->probe(files));
    if (parts->providers.empty())
        return fail(errc::op_missing, parts->explain_nothing_open());
    return std::unique_ptr<plugin_host>(new plugin_host(std::move(parts)));
}

result<op_choice> plugin_host::choose(const moira_op_header& desc) const {
    return select_op(impl_->providers, desc);
}

const op_provider& plugin_host::memory_provider() const {
    return impl_->providers.front();
}

const std::vector<found_plugin>& plugin_host::found() const noexcept {
    return impl_->found;
}

} // namespace moira
