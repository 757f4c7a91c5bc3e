# A NixOS module that serves pinned results over HTTP:
#   services.nixbridge-results = { enable = true; stages = { inherit (nixbridge.lib.fromLock ./bridge.lock) train; }; };
{
  config,
  lib,
  pkgs,
  ...
}:
let
  this = config.services.nixbridge-results;
  # A list where a stage has several chosen realizations.
  paths = name: lib.toList this.stages.${name};
  links = lib.concatMap (
    name: lib.imap0 (index: one: { name = if index == 0 then name else "${name}-${toString index}"; path = one; }) (paths name)
  ) (lib.attrNames this.stages);
in
{
  options.services.nixbridge-results = {
    enable = lib.mkEnableOption "serving results that bridge.lock pins";
    stages = lib.mkOption {
      type = lib.types.attrsOf lib.types.raw;
      default = { };
      description = "What is served, by name, as `fromLock` gives it.";
    };
    port = lib.mkOption {
      type = lib.types.port;
      default = 8080;
    };
  };

  config = lib.mkIf this.enable {
    systemd.services.nixbridge-results = {
      description = "Results that bridge.lock pins";
      wantedBy = [ "multi-user.target" ];
      serviceConfig = {
        ExecStart = "${pkgs.darkhttpd}/bin/darkhttpd ${pkgs.linkFarm "results" links} --port ${toString this.port}";
        DynamicUser = true;
        Restart = "on-failure";
      };
    };
  };
}
