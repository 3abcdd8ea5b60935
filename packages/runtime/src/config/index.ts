export {
  type ConfigDeclaration,
  type ConfigDefinition,
  type ConfigOutline,
  type ConfigShape,
  type ConfigValues,
  defineConfig,
  type Setting,
} from './definition.ts';
export * from './kinds.ts';
export {
  type ConfigExamination,
  type ConfigSources,
  checkConfig,
  configError,
  type EffectiveSetting,
  type LoadedConfig,
  loadConfig,
} from './load-config.ts';
export { describeOrigin, type Origin } from './origin.ts';
export type { ConfigProblem, FlagValue } from './raw-values.ts';
export { renderEffective, renderReference, renderSample, type ShownSetting, tomlValue } from './render-config.ts';
export {
  caFile,
  checkRedis,
  checkTlsListener,
  databaseSection,
  metricsSection,
  redisSection,
  tlsListener,
} from './sections.ts';
export { parseToml } from './toml.ts';
