export * from './client.ts';
export * from './data-port.ts';
export {
  generateIdentity,
  type JoiningPeer,
  loadOrCreateIdentity,
  type PeerDirectory,
  type PeerIdentity,
  pinnedKeys,
} from './identity.ts';
export * from './join-token.ts';
export * from './server.ts';
export * from './terminal-frames.ts';
