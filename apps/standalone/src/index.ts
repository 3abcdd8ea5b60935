export { Cluster, type StopOptions } from './cluster.ts';
export { type ClusterConfig, parseClusterConfig } from './config.ts';
export { type Credentials, dataDirectory } from './data-directory.ts';
