// What a configuration says of updates: node rules.mjs PACKAGE CONFIG < cases > answers. PACKAGE is Renovate's folder; its
// own code resolves the presets and applies the rules.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { json } from 'node:stream/consumers';
import { pathToFileURL } from 'node:url';

const ASKED = ['addLabels', 'allowedVersions', 'automerge', 'dependencyDashboardApproval', 'enabled', 'pinDigests'];

const [folder, file] = process.argv.slice(2);
const part = (name) => import(pathToFileURL(`${folder}/dist/${name}.js`).href);
const json5 = createRequire(`${folder}/package.json`)('json5');

const { init } = await part('logger/index');
await init();
const { resolveConfigPresets } = await part('config/presets/index');
const { mergeChildConfig } = await part('config/index');
const { getConfig } = await part('config/defaults');
const { applyPackageRules } = await part('util/package-rules/index');

const own = await resolveConfigPresets(json5.parse(readFileSync(file, 'utf8')));
const config = mergeChildConfig(getConfig(), own.config ?? own);
// Of the presets' hundreds of rules those that can change an answer.
const weighs = (rule) => Object.keys(rule).some((key) => ASKED.includes(key) || key.startsWith('override'));
config.packageRules = config.packageRules.filter(weighs);
const answers = [];
for (const given of await json(process.stdin)) {
  // As Renovate does: what a kind of update says in general, then the rules once more.
  const first = await applyPackageRules({ ...config, ...given });
  const update = mergeChildConfig(first, config[given.updateType] ?? {});
  const said = await applyPackageRules({ ...update, packageRules: config.packageRules });
  answers.push(Object.fromEntries(ASKED.map((key) => [key, said[key] ?? null])));
}
process.stdout.write(JSON.stringify(answers));
